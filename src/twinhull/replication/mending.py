"""Anti-entropy: what the log did not carry is found by comparing states with each peer, and mended on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from twinhull.kit.errors import TwinhullError
from twinhull.metadata.names import Name
from twinhull.records.change import Change, missing
from twinhull.replication.apply import merge_records
from twinhull.replication.comparing import TRIES, Comparison, compare
from twinhull.replication.engine import Engine
from twinhull.replication.feed import frames_of
from twinhull.replication.neighbours import Neighbour
from twinhull.replication.protocol import FRAME_BYTES_SOFT, CheckAnswer, CheckQuery, Fault, RecordsAnswer
from twinhull.replication.self_check import OWN_PARTS, PARTS, RECORDS, SelfCheck
from twinhull.replication.threads import in_thread

log = structlog.get_logger(__name__)

_NAMES_AT_ONCE: Final = 200
_TIMEOUT_S: Final = 60.0
# A peer may have to make all its tables anew beside the real ones.
_CHECK_TIMEOUT_S: Final = 900.0
_FAULTS_LISTED_MAX: Final = 1000


class Mending:
    """Compares and mends. Used on the agent's event loop."""

    def __init__(self, engine: Engine, scratch: Path) -> None:
        """Take what knows the node and its peers, and a file to work in."""
        self._engine = engine
        self._own = SelfCheck(engine, scratch)

    # -- what peers ask --------------------------------------------------------------------------------------------

    async def records(self, names: list[Name]) -> RecordsAnswer:
        """Return the records of these names that are here and whole, as many as one answer holds."""

        def read() -> RecordsAnswer:
            found, size, answered = [], 0, 0
            for kind, key in names[:_NAMES_AT_ONCE]:
                answered += 1
                record = self._engine.store.record(kind, key)
                if record is not None:
                    found.append(record)
                    size += len(record.record) + len(record.content or b"")
                if size >= FRAME_BYTES_SOFT:
                    break
            return RecordsAnswer(records=found, answered=answered)

        return await in_thread(self._engine.executor, read)

    async def take(self, node: str, records: list[Change]) -> int:
        """Merge records of a peer; return how many of them changed anything. Those that can't be merged are logged."""
        merged = await in_thread(self._engine.executor, merge_records, self._engine.store, records)
        for reason in merged.refused:
            log.warning("record not mended", peer=node, reason=reason)
        if merged.changed:
            self._engine.applied(node, merged.changed, {})
            log.warning("records mended by a peer's", peer=node, count=len(merged.changed), first=merged.changed[0].key)
        return len(merged.changed)

    async def check(self, query: CheckQuery) -> CheckAnswer:
        """Look through a part of this node's own data."""
        return await self._own.step(query)

    async def check_all(self, parts: Sequence[str], *, repair: bool) -> list[Fault]:
        """Look through parts of this node's own data, to their ends."""
        return [fault for part in parts for fault in await self._own.all_of(part, repair=repair)]

    # -- with one peer ---------------------------------------------------------------------------------------------

    async def compare(self, neighbour: Neighbour, *, repair: bool = False, tries: int = TRIES) -> Comparison:
        """Compare with a peer; to repair, exchange what differs, so that both have all that either had."""

        async def mend(names: list[Name]) -> None:
            await self._exchange(neighbour, names)

        engine = self._engine
        return await compare(engine.store, neighbour.client, engine.executor, tries=tries, mend=mend if repair else None)

    async def _exchange(self, neighbour: Neighbour, names: list[Name]) -> None:
        for start in range(0, len(names), _NAMES_AT_ONCE):
            chunk = names[start : start + _NAMES_AT_ONCE]
            due = list(chunk)
            while due:
                answer = await neighbour.client.records(due, timeout_s=_TIMEOUT_S)
                await self.take(neighbour.node.id, answer.records)
                due = due[max(1, answer.answered) :]
            have = await in_thread(self._engine.executor, self._have, chunk)
            for frame in frames_of(have) if have else []:
                await neighbour.client.offer(frame, timeout_s=_TIMEOUT_S)

    def _have(self, names: list[Name]) -> list[Change]:
        found = (self._engine.store.record(kind, key) for kind, key in names)
        return [record for record in found if record is not None]

    # -- with all --------------------------------------------------------------------------------------------------

    async def verify(self, *, deep: bool = False, repair: bool = False) -> dict[str, Any]:
        """Compare this node with each peer, and return what `cluster verify --json` prints.

        Deep: each node also looks through its query tables, manifests and blobs. To repair is deep, too.
        """
        parts = PARTS if deep or repair else (RECORDS,)
        faults = await self.check_all(OWN_PARTS if deep or repair else parts, repair=repair)
        peers = [await self._verify_peer(neighbour, parts, repair=repair) for neighbour in self._engine.neighbours.all()]
        own_missing = self._engine.missing_blobs()
        equal = all(peer["equal"] for peer in peers) and not own_missing and all(fault.is_mended for fault in faults)
        return {"equal": equal, "missing_blobs": own_missing, "faults": _listed(faults), "peers": peers}

    async def _verify_peer(self, neighbour: Neighbour, parts: Sequence[str], *, repair: bool) -> dict[str, Any]:
        node = neighbour.node
        try:
            faults = [fault for part in parts for fault in await self._check_at(neighbour, part, repair=repair)]
            before = await self.compare(neighbour, repair=True) if repair else None
            comparison = before if before is not None and before.equal else await self.compare(neighbour)
        except TwinhullError as error:
            return {"name": node.name, "equal": False, "differing": [], "faults": [], "error": str(error)}
        own_vector = await in_thread(self._engine.executor, self._engine.store.vector)
        mended = sum(one.count for one in before.differing) - sum(one.count for one in comparison.differing) if before else 0
        return {
            "name": node.name,
            "equal": comparison.equal and all(fault.is_mended for fault in faults),
            "settled": comparison.settled,
            "missing_blobs": comparison.missing_blobs,
            "changes_to_come": missing(own_vector, neighbour.puller.source_vector),
            "differing": [_described(one) for one in comparison.differing],
            "mended": max(0, mended),
            "faults": _listed(faults),
        }

    async def _check_at(self, neighbour: Neighbour, part: str, *, repair: bool) -> list[Fault]:
        faults: list[Fault] = []
        query = CheckQuery(part=part, repair=repair)
        while True:
            answer = await neighbour.client.check(query, timeout_s=_CHECK_TIMEOUT_S)
            faults += answer.faults
            if answer.after is None:
                return faults
            query = CheckQuery(part=part, after=answer.after, repair=repair)


def _described(one: object) -> dict[str, Any]:
    described: dict[str, Any] = msgspec.to_builtins(one)
    return described


def _listed(faults: list[Fault]) -> list[dict[str, Any]]:
    return [
        {"what": fault.what, "kind": fault.kind, "key": fault.key, "mended": fault.is_mended}
        for fault in faults[:_FAULTS_LISTED_MAX]
    ]
