"""A node's look through its own data, step by step: records, manifests, query tables and blobs, and mending what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from twinhull.kit.digest import Digest, is_known
from twinhull.kit.errors import ProtocolError, TwinhullError
from twinhull.metadata import checking, members
from twinhull.metadata.checking import Looked
from twinhull.metadata.healing import heal_content, heal_record, heal_rows
from twinhull.metadata.names import Name
from twinhull.metadata.transaction import Transaction
from twinhull.records.change import Change
from twinhull.records.kinds import BLOB
from twinhull.replication.engine import Engine
from twinhull.replication.protocol import CheckAnswer, CheckQuery, Fault
from twinhull.replication.threads import in_thread

log = structlog.get_logger(__name__)

RECORDS: Final = "records"
CONTENTS: Final = "contents"
ROWS: Final = "rows"
BLOBS: Final = "blobs"
LOG: Final = "log"
# In this order: what comes later rests on what is before.
PARTS: Final = (RECORDS, CONTENTS, ROWS, BLOBS)
# Peers of an older release can't be asked for the log; each node looks through its own by a schedule.
OWN_PARTS: Final = (*PARTS, LOG)

_COPIES_TIMEOUT_S: Final = 30.0
_BLOBS_PAGE: Final = 1000
# A step waits so long for the blobs that it has asked for; they arrive all the same.
_BLOBS_LOOK_S: Final = 0.05
_BLOBS_LOOKS: Final = 400
# The event loop's share while thousands of rows are looked at.
_BREATH_S: Final = 0.005

Heal = Callable[[Transaction, str, str, list[Change]], bool]


class SelfCheck:
    """Looks through one node's own data. Used on the agent's event loop."""

    def __init__(self, engine: Engine, scratch: Path) -> None:
        """Take what knows the node and its peers, and a file to work in."""
        self._engine = engine
        self._scratch = scratch
        # One at a time has the scratch file.
        self._rows_lock = asyncio.Lock()

    async def step(self, query: CheckQuery) -> CheckAnswer:
        """Look through the next of a part; raises ProtocolError for a part that there is not."""
        match query.part:
            case "records":
                looked = await self._read(lambda: self._look(checking.damaged_records, query.after))
                return await self._healed("record", looked, heal_record, repair=query.repair)
            case "contents":
                looked = await self._read(lambda: self._look(checking.wrong_contents, query.after))
                return await self._healed("content", looked, heal_content, repair=query.repair)
            case "rows":
                async with self._rows_lock:
                    looked = await self._read(self._differing_rows)
                return await self._healed("rows", looked, _heal_rows, repair=query.repair)
            case "blobs":
                return await self._blobs(query.after[0], repair=query.repair)
            case "log":
                return await in_thread(self._engine.executor, self._log, query)
            case _:
                raise ProtocolError(f"there is no part {query.part[:32]!r} to look through")

    async def all_of(self, part: str, *, repair: bool) -> list[Fault]:
        """Look through all of a part."""
        faults: list[Fault] = []
        query = CheckQuery(part=part, repair=repair)
        while True:
            answer = await self.step(query)
            faults += answer.faults
            if answer.after is None:
                return faults
            query = CheckQuery(part=part, after=answer.after, repair=repair)

    # -- records and what is made of them --------------------------------------------------------------------------

    async def _read(self, read: Callable[[], Looked]) -> Looked:
        return await in_thread(self._engine.executor, read)

    def _look(self, look: Callable[..., Looked], after: Name) -> Looked:
        with self._engine.store.read() as connection:
            return look(connection, after)

    def _differing_rows(self) -> Looked:
        with self._engine.store.read() as connection:
            return Looked(checking.differing_rows(connection, self._scratch, lambda: time.sleep(_BREATH_S)), None)

    async def _healed(self, what: str, looked: Looked, heal: Heal, *, repair: bool) -> CheckAnswer:
        mended: set[Name] = set()
        if looked.faulty and repair:
            copies = await self._copies(looked.faulty) if heal is not _heal_rows else {}
            mended = await in_thread(self._engine.executor, self._heal, what, looked.faulty, copies, heal)
            self._engine.applied(self._engine.store.node, await in_thread(self._engine.executor, self._whole, mended), {})
        for kind, key in looked.faulty:
            log.warning("own data differ from what was stored", what=what, kind=kind, key=key, mended=(kind, key) in mended)
        faults = [Fault(what=what, kind=kind, key=key, is_mended=(kind, key) in mended) for kind, key in looked.faulty]
        return CheckAnswer(faults=faults, after=looked.after)

    def _heal(self, what: str, faulty: list[Name], copies: dict[Name, list[Change]], heal: Heal) -> set[Name]:
        mended = set()
        for kind, key in faulty:
            try:
                with self._engine.store.write() as transaction:
                    if heal(transaction, kind, key, copies.get((kind, key), [])):
                        mended.add((kind, key))
            except TwinhullError as error:
                log.warning("own data not mended", what=what, kind=kind, key=key, error=str(error))
        return mended

    def _whole(self, names: set[Name]) -> list[Change]:
        records = (self._engine.store.record(kind, key) for kind, key in sorted(names))
        return [record for record in records if record is not None]

    async def _copies(self, names: list[Name]) -> dict[Name, list[Change]]:
        """Return what the peers that answer have of these records."""
        found: dict[Name, list[Change]] = {}
        for neighbour in self._engine.neighbours.active():
            due = list(names)
            with contextlib.suppress(TwinhullError):
                while due:
                    answer = await neighbour.client.records(due, timeout_s=_COPIES_TIMEOUT_S)
                    for record in answer.records:
                        found.setdefault((record.kind, record.key), []).append(record)
                    due = due[max(1, answer.answered) :]
        return found

    def _log(self, query: CheckQuery) -> CheckAnswer:
        """Cut the log behind what is damaged in it: peers that lack that are sent records, which have all that it said."""
        looked = self._look(checking.damaged_changes, query.after)
        for origin, seq in looked.faulty:
            log.warning("own log differs from what was written", origin=origin, seq=seq, mended=query.repair)
            if query.repair:
                self._engine.store.cut_log(origin, int(seq))
        faults = [Fault(what=LOG, kind=origin, key=seq, is_mended=query.repair) for origin, seq in looked.faulty]
        return CheckAnswer(faults=faults, after=looked.after)

    # -- blobs -----------------------------------------------------------------------------------------------------

    async def _blobs(self, after: str, *, repair: bool) -> CheckAnswer:
        page, faulty = await in_thread(self._engine.executor, self._look_at_blobs, after)
        faults = []
        if repair and faulty:
            await self._fetch(faulty)
        for digest, size in faulty:
            mended = repair and await in_thread(self._engine.executor, self._engine.blobs.stat, digest) == size
            faults.append(Fault(what="blob", kind=BLOB.name, key=digest, is_mended=mended))
        return CheckAnswer(faults=faults, after=(page, "") if page else None)

    def _look_at_blobs(self, after: str) -> tuple[str, list[tuple[Digest, int]]]:
        with self._engine.store.read() as connection:
            named = members.named_blobs_page(connection, after, _BLOBS_PAGE)
        # What is no digest names no blob: a row that says so is for the look through the tables.
        faulty = [(digest, size) for digest, size in named if is_known(digest) and self._engine.blobs.stat(digest) != size]
        return (named[-1][0] if len(named) == _BLOBS_PAGE else ""), faulty

    async def _fetch(self, faulty: list[tuple[Digest, int]]) -> None:
        """Let the blobs come from peers, for a while; what has another size than it should is put aside."""
        backlog = self._engine.transfers.backlog
        for digest, size in faulty:
            await in_thread(self._engine.executor, self._put_aside, digest, size)
            backlog.want(digest, size)
        backlog.retry_now()
        for _ in range(_BLOBS_LOOKS):
            if not any(backlog.is_coming(digest) for digest, _ in faulty):
                return
            await asyncio.sleep(_BLOBS_LOOK_S)

    def _put_aside(self, digest: Digest, size: int) -> None:
        found = self._engine.blobs.stat(digest)
        if found is not None and found != size and self._engine.blobs.quarantine(digest):
            log.warning("blob of another size than it should have put aside", digest=digest, size=found, expected=size)


def _heal_rows(transaction: Transaction, kind: str, key: str, _copies: list[Change]) -> bool:
    return heal_rows(transaction, kind, key)
