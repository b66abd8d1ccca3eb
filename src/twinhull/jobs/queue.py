"""Which task is next: oldest first within a lane, and of the lanes' heads the one that has been due longest. Pure."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple


class Item(NamedTuple):
    """A task, or an execution that has to be planned."""

    # Of the execution.
    execution: int
    # Of the task; 0: the execution is to be planned.
    task: int
    lane: str = ""


@dataclass(slots=True)
class _Lane:
    waiting: deque[Item] = field(default_factory=deque)
    # Whether its head is under way, or waits in the heap.
    is_taken: bool = False


class Queue:
    """All that one job has to do. What is taken must be given back, by `done` or `again`."""

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self._lanes: dict[str, _Lane] = {}
        # Heads of lanes by when they are due, then by age. Those that were removed meanwhile are passed over.
        self._heads: list[tuple[int, int, Item]] = []
        self._known: set[Item] = set()
        self._by_execution: dict[int, set[Item]] = {}
        self._due: Final[dict[Item, int]] = {}

    def __contains__(self, item: Item) -> bool:
        """Tell whether it is waiting or under way."""
        return item in self._known

    def __len__(self) -> int:
        """Return how many are waiting or under way."""
        return len(self._known)

    def add(self, item: Item, due_ms: int = 0) -> None:
        """Put it at its lane's end, not to be done before that time; nothing happens if it is there already."""
        if item in self._known:
            return
        self._known.add(item)
        self._by_execution.setdefault(item.execution, set()).add(item)
        if due_ms:
            self._due[item] = due_ms
        lane = self._lanes.setdefault(_lane_of(item), _Lane())
        lane.waiting.append(item)
        self._show_head(lane)

    def take(self, now_ms: int) -> Item | None:
        """Return what is to be done now; None when nothing is due."""
        while self._heads and self._heads[0][0] <= now_ms:
            _, _, item = heapq.heappop(self._heads)
            if self._is_head(item):
                return item
        return None

    def next_due_ms(self) -> int | None:
        """Return when something is due next; None when nothing waits but behind what is under way."""
        while self._heads and not self._is_head(self._heads[0][2]):
            heapq.heappop(self._heads)
        return self._heads[0][0] if self._heads else None

    def again(self, item: Item, due_ms: int) -> None:
        """Give back what has to be done once more, at that time; its lane waits for it."""
        if item in self._known:
            heapq.heappush(self._heads, (due_ms, _age(item), item))

    def done(self, item: Item) -> None:
        """Forget an item, whether it is waiting or under way; nothing happens if it is not there."""
        if item not in self._known:
            return
        self._known.discard(item)
        of_execution = self._by_execution[item.execution]
        of_execution.discard(item)
        if not of_execution:
            del self._by_execution[item.execution]
        self._due.pop(item, None)
        name = _lane_of(item)
        lane = self._lanes[name]
        is_head = lane.waiting[0] == item
        lane.waiting.remove(item)
        if not lane.waiting:
            del self._lanes[name]
        elif is_head:
            lane.is_taken = False
            self._show_head(lane)

    def of_execution(self, execution: int) -> list[Item]:
        """Return all that is waiting or under way for an execution."""
        return sorted(self._by_execution.get(execution, ()))

    def _show_head(self, lane: _Lane) -> None:
        if not lane.is_taken:
            lane.is_taken = True
            head = lane.waiting[0]
            heapq.heappush(self._heads, (self._due.get(head, 0), _age(head), head))

    def _is_head(self, item: Item) -> bool:
        lane = self._lanes.get(_lane_of(item))
        return lane is not None and lane.waiting[0] == item


def _lane_of(item: Item) -> str:
    # No lane of a job begins with this sign.
    return item.lane or f"\0{item.execution}/{item.task}"


def _age(item: Item) -> int:
    return item.task or item.execution
