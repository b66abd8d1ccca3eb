"""Judges a recorded history by the promises: pushes present, revocations in force, no read older than it may be. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal

# "push" and "untag" write a tag, "read" reads it; "erase" deletes an image by its digest; "revoke" leaves a subject so much
# strength, and "probe" looks how much it has.
Kind = Literal["push", "untag", "read", "erase", "revoke", "probe"]
# Whether the client was told that it is done, or that it is not; "unknown": it may have happened, now or later.
Outcome = Literal["done", "refused", "unknown"]
# What a subject may do: nothing, pull, or push too.
FULL_STRENGTH: Final = 2
_WRITES: Final = ("push", "untag")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One request of a client, or the few that make one push, from when to when (monotonic seconds)."""

    kind: Kind
    node: str
    # The tag `repository:tag`, the image `repository@digest`, or the subject.
    key: str
    outcome: Outcome
    began_s: float
    ended_s: float
    # The digest that was pushed or read; "" for none.
    value: str = ""
    strength: int = 0

    @property
    def settled_s(self) -> float:
        """Return when it can no longer take effect: what is not known to have ended may do so at any time."""
        return inf if self.outcome == "unknown" else self.ended_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """A time in which what one node of a pair writes need not be seen at the other."""

    pairs: frozenset[frozenset[str]]
    began_s: float
    ended_s: float = inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one node shows in the end."""

    tags: Mapping[str, str]
    # Images, `repository@digest`, whose manifest and blobs could all be pulled and had the right bytes.
    images: Set[str]
    strengths: Mapping[str, int]


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What was counted, and every promise that was broken, in words."""

    operations: int = 0
    acknowledged_pushes: int = 0
    revocations: int = 0
    reads: int = 0
    lost: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Tell whether every promise was kept."""
        return not (self.lost or self.undone or self.stale)

    @property
    def broken(self) -> list[str]:
        """Return all that was broken."""
        return [*self.lost, *self.undone, *self.stale]

    def __str__(self) -> str:
        """Return the figures in one line."""
        return (
            f"{self.operations} operations; {self.acknowledged_pushes} acknowledged pushes, lost: {len(self.lost)};"
            f" {self.revocations} revocations, undone: {len(self.undone)}; {self.reads} reads, stale: {len(self.stale)}"
        )


class History:
    """Operations in any order, and when which nodes could not hear each other."""

    def __init__(
        self, operations: Iterable[Operation], disturbances: Sequence[Disturbance] = (), *, clocks_agree: bool = True
    ) -> None:
        """Take what was recorded; where clocks do not agree, only a write that could see an earlier one replaces it."""
        self._operations = sorted(operations, key=lambda operation: operation.began_s)
        self._disturbances = disturbances
        self._clocks_agree = clocks_agree

    def judge(self, readings: Mapping[str, Reading]) -> Verdict:
        """Return the verdict, given what each node shows after everything has healed."""
        verdict = Verdict(operations=len(self._operations))
        by_key: dict[str, list[Operation]] = defaultdict(list)
        for operation in self._operations:
            by_key[operation.key].append(operation)
            if operation.outcome == "done":
                verdict.acknowledged_pushes += operation.kind == "push"
                verdict.revocations += operation.kind == "revoke"
                verdict.reads += operation.kind in ("read", "probe")
        self._judge_images(verdict, readings)
        for key, operations in by_key.items():
            if any(operation.kind in ("revoke", "probe") for operation in operations):
                self._judge_subject(verdict, key, operations, readings)
            else:
                self._judge_tag(verdict, key, operations, readings)
        return verdict

    def is_healthy(self, one: str, other: str, began_s: float, ended_s: float) -> bool:
        """Tell whether the nodes, or the one node with itself, could hear each other all that time."""
        # A node is paired with itself when it was put back to what it was, and has forgotten its own writes.
        pair = frozenset((one, other))
        return not any(
            pair in disturbance.pairs and disturbance.began_s <= ended_s and began_s <= disturbance.ended_s
            for disturbance in self._disturbances
        )

    # -- images --------------------------------------------------------------------------------------------------------

    def _judge_images(self, verdict: Verdict, readings: Mapping[str, Reading]) -> None:
        erased: dict[str, Outcome] = {
            operation.key: operation.outcome
            for operation in self._operations
            if operation.kind == "erase" and operation.outcome != "refused"
        }
        pushed = {
            f"{operation.key.rpartition(':')[0]}@{operation.value}"
            for operation in self._operations
            if operation.kind == "push" and operation.outcome == "done"
        }
        for node, reading in readings.items():
            verdict.lost += [f"{image} is not at {node}" for image in sorted(pushed - erased.keys() - reading.images)]
            back = {image for image, outcome in erased.items() if outcome == "done"} & reading.images
            verdict.stale += [f"{image} was erased and is at {node}" for image in sorted(back)]

    # -- tags ----------------------------------------------------------------------------------------------------------

    def _judge_tag(self, verdict: Verdict, key: str, operations: Sequence[Operation], readings: Mapping[str, Reading]) -> None:
        writes = [one for one in operations if one.kind in _WRITES and one.outcome != "refused"]
        if not writes:
            return
        acknowledged = [write for write in writes if write.outcome == "done"]
        for node, reading in readings.items():
            found = reading.tags.get(key, "")
            if newer := self._replaced(found, writes, acknowledged):
                verdict.lost.append(f"{key} is {found or 'absent'} at {node}, and {newer.value or 'deleted'} was written later")
        reads = [one for one in operations if one.kind == "read" and one.outcome == "done"]
        for number, read in enumerate(reads):
            before = [write for write in acknowledged if write.ended_s < read.began_s and self._must_show(write, read)]
            if newer := self._replaced(read.value, writes, before):
                verdict.stale.append(_told(read, f"{newer.value or 'deleted'} was written at {newer.node}", newer.ended_s))
                continue
            for earlier in reads[:number]:
                # No tag at all may also be what was there before the first write, so it says nothing of order.
                if not earlier.value or earlier.value == read.value:
                    continue
                if earlier.ended_s < read.began_s and self._must_show(earlier, read):
                    sources = [write for write in writes if write.value == earlier.value]
                    if len(sources) == 1 and self._replaced(read.value, writes, sources):
                        verdict.stale.append(_told(read, f"{earlier.value} was read at {earlier.node}", earlier.ended_s))
                        break

    def _must_show(self, earlier: Operation, read: Operation) -> bool:
        return self.is_healthy(earlier.node, read.node, earlier.began_s, read.ended_s)

    def _replaced(self, value: str, writes: Sequence[Operation], later: Sequence[Operation]) -> Operation | None:
        """Return one of the later writes that has replaced every write that could have left this value, or None."""
        sources = [write for write in writes if write.value == value]
        if not sources:
            # Nobody wrote it: the tag as it was before the first write, or something that never was.
            return later[-1] if later else None
        deletes = [write for write in writes if write.kind == "untag"]
        replacing = [
            next((write for write in reversed(later) if self._replaces(write, source, deletes)), None) for source in sources
        ]
        return replacing[-1] if all(replacing) else None

    def _replaces(self, write: Operation, source: Operation, deletes: Sequence[Operation]) -> bool:
        if write.began_s <= source.settled_s:
            return False
        # A delete takes only what it has seen; by clocks that agree, the later of two pushes wins, seen or not.
        # A later push that was itself deleted, by somebody who had not seen the earlier one, leaves the earlier one.
        is_deleted = any(delete.settled_s > write.began_s for delete in deletes)
        blind_is_enough = write.kind == "push" and (self._clocks_agree or source.kind == "untag")
        return (blind_is_enough and not is_deleted) or self.is_healthy(source.node, write.node, source.began_s, write.ended_s)

    # -- rights --------------------------------------------------------------------------------------------------------

    def _judge_subject(
        self, verdict: Verdict, key: str, operations: Sequence[Operation], readings: Mapping[str, Reading]
    ) -> None:
        revocations = [one for one in operations if one.kind == "revoke" and one.outcome != "refused"]
        acknowledged = [one for one in revocations if one.outcome == "done"]
        at_most = min((one.strength for one in acknowledged), default=FULL_STRENGTH)
        at_least = min((one.strength for one in revocations), default=FULL_STRENGTH)
        for node, reading in readings.items():
            strength = reading.strengths.get(key, 0)
            if strength > at_most:
                verdict.undone.append(f"{key} has strength {strength} at {node}, and was left {at_most}")
            if strength < at_least:
                verdict.lost.append(f"{key} has strength {strength} at {node}, and nobody took away more than to {at_least}")
        for probe in operations:
            if probe.kind != "probe" or probe.outcome != "done":
                continue
            for revocation in acknowledged:
                in_force = revocation.ended_s < probe.began_s and self._must_show(revocation, probe)
                if in_force and probe.strength > revocation.strength:
                    what = f"it was left {revocation.strength} at {revocation.node}"
                    verdict.undone.append(_told(probe, what, revocation.ended_s))
                    break


def _told(read: Operation, what: str, when_s: float) -> str:
    found = read.value or str(read.strength)
    return f"{read.key}: {found} read at {read.node} {(read.began_s - when_s) * 1000:.0f} ms after {what}"


def pairs_of(nodes: Iterable[str], among: Callable[[str, str], bool] = lambda _one, _other: True) -> frozenset[frozenset[str]]:
    """Return all pairs of these nodes, or those that the condition chooses."""
    names = sorted(nodes)
    return frozenset(frozenset((one, other)) for one in names for other in names if one < other and among(one, other))
