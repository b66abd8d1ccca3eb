"""What was written, by whom, and what its writer had seen: kept outside of the nodes, to judge them by.

From these facts alone follows what must be there in the end, without asking the program's merge.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import text

from tools.simulate.disk import MemoryDatabase
from tools.simulate.network import Trace
from twinhull.kit.clock import Clock
from twinhull.kit.hlc import Stamp
from twinhull.metadata.incarnation import current_origin
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.change import VersionVector
from twinhull.records.merge import Context, Value, decode

# Which client's operation is being carried out.
OPERATION: Final[ContextVar[int]] = ContextVar("operation", default=0)

_WRITTEN = text("SELECT seq, kind, key, record FROM changes WHERE position > :position AND origin = :origin ORDER BY seq")


@dataclass(slots=True, kw_only=True, eq=False)
class Fact:
    """One committed write of one record."""

    node: str
    origin: str
    seq: int
    kind: str
    key: str
    deleted: bool
    stamp: Stamp
    # What this write itself has set.
    fields: dict[str, Value]
    # What its node had applied, and which writes of this record it had seen.
    vector: VersionVector
    context: Context
    operation: int
    at_s: float
    # When its client was told that it is safe, and how safe: "" if never.
    acked_s: float = 1e9
    level: str = ""
    # Why it may be gone: all nodes that had it have lost it, as an administrator wanted.
    lost: bool = False

    def saw(self, other: Fact) -> bool:
        """Tell whether the writer had seen the other write."""
        seq = max(self.vector.get(other.origin, 0), self.context.get(other.origin, 0))
        return other is not self and seq >= other.seq


@dataclass(slots=True)
class Ledger:
    """All facts, by the record that they are about."""

    by_key: dict[tuple[str, str], list[Fact]] = field(default_factory=dict)
    by_dot: dict[tuple[str, int], Fact] = field(default_factory=dict)
    by_operation: dict[int, list[Fact]] = field(default_factory=dict)
    # What should be impossible was seen at once.
    wrong: list[str] = field(default_factory=list)

    def add(self, fact: Fact) -> None:
        """Take a fact in."""
        dot = fact.origin, fact.seq
        if dot in self.by_dot:
            self.wrong.append(f"change {fact.seq} of {fact.origin} was written twice: {fact.kind} {fact.key}")
        self.by_dot[dot] = fact
        self.by_key.setdefault((fact.kind, fact.key), []).append(fact)
        self.by_operation.setdefault(fact.operation, []).append(fact)

    def of(self, kind: str, key: str) -> list[Fact]:
        """Return what was written to a record and cannot have been lost."""
        return [fact for fact in self.by_key.get((kind, key), ()) if not fact.lost]

    def acked(self, operation: int, level: str, at_s: float) -> None:
        """Note that a client was told."""
        for fact in self.by_operation.get(operation, ()):
            fact.acked_s, fact.level = at_s, level

    def keys(self, kind: str) -> list[str]:
        """Return the keys of all records of a kind."""
        return [key for found, key in self.by_key if found == kind]

    def lose(self, vectors: Iterable[VersionVector]) -> int:
        """Excuse what no node has any more that has these vectors; return how much that is."""
        kept = list(vectors)
        count = 0
        for fact in self.by_dot.values():
            if not fact.lost and not any(vector.get(fact.origin, 0) >= fact.seq for vector in kept):
                fact.lost = True
                count += 1
        return count


def latest_of(facts: Iterable[Fact]) -> list[Fact]:
    """Return those that none of the others had seen."""
    found = list(facts)
    return [fact for fact in found if not any(other.saw(fact) for other in found)]


class WitnessedStore(Store):
    """A store whose own writes become facts."""

    def __init__(
        self,
        database: MemoryDatabase,
        *,
        node: str,
        slot: int,
        clock: Clock,
        chance: random.Random,
        ledger: Ledger,
        trace: Trace,
    ) -> None:
        """Take whom to tell."""
        super().__init__(database, node=node, slot=slot, clock=clock, chance=chance)
        self._source = database
        self._vector: tuple[object, VersionVector] = (None, {})
        self._ledger = ledger
        self._trace = trace

    def vector(self) -> VersionVector:
        """Return what is applied here, from memory while nothing has changed: no other question is asked as often."""
        version = self._source.version
        if self._vector[0] != version:
            self._vector = version, super().vector()
        return dict(self._vector[1])

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Give a transaction, and note afterwards what it has written."""
        before = self._source.position() or 0
        with super().write() as transaction:
            yield transaction
        if transaction.seq:
            self._note(before)

    def _note(self, position: int) -> None:
        vector = self.vector()
        with self._source.read() as connection:
            origin = current_origin(connection, self.node)
            rows = connection.execute(_WRITTEN, {"position": position, "origin": origin}).all()
        for seq, kind, key, encoded in rows:
            version = decode(encoded).versions[0]
            own = version.write.dot
            self._ledger.add(
                Fact(
                    node=self.node,
                    origin=origin,
                    seq=seq,
                    kind=kind,
                    key=key,
                    deleted=version.deleted,
                    stamp=version.write.stamp,
                    fields={name: entry.value for name, entry in version.fields.items() if entry.write.dot == own},
                    vector=vector,
                    context=version.write.context,
                    operation=OPERATION.get(),
                    at_s=self._trace.now_s,
                )
            )
            self._trace.add(f"{self.node} wrote {kind} {key}{' deleted' if version.deleted else ''}", encoded)
