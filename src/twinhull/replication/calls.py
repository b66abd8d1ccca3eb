"""What HTTP workers ask of the agent: is my write safe, does a peer know this, bring me that blob."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog

from twinhull.config.values import LEVELS
from twinhull.kit.digest import Digest
from twinhull.kit.errors import DurabilityUnreached, TwinhullError, Unavailable
from twinhull.records.change import Change
from twinhull.replication.apply import merge_records
from twinhull.replication.engine import Engine
from twinhull.replication.link import (
    AskUpstream,
    Beyond,
    Call,
    Ended,
    Fetch,
    FetchUpstream,
    Find,
    Grown,
    Locate,
    Notice,
    Reach,
    Result,
    SizeUpstream,
    Status,
    UpstreamCall,
)
from twinhull.replication.neighbours import REMOVED_HINT, Neighbour
from twinhull.replication.overview import Overview
from twinhull.replication.protocol import (
    INLINE_BLOB_BYTES_MAX,
    InlineBlob,
    UploadEnded,
    UploadGrew,
)
from twinhull.replication.threads import in_thread
from twinhull.replication.whereabouts import whereabouts

log = structlog.get_logger(__name__)

# A question to the peers on behalf of a waiting client takes no longer than this.
_FIND_TIMEOUT_S: Final = 0.5
_HOLD_TIMEOUT_S: Final = 600.0


AnswersForUpstream = Callable[[UpstreamCall], Awaitable[Result]]


class WorkerCalls:
    """Answers the workers of this node."""

    def __init__(self, engine: Engine, overview: Overview | None = None, upstreams: AnswersForUpstream | None = None) -> None:
        """Take what knows the peers, what describes them, and who answers for the registries that projects stand for."""
        self._upstreams = upstreams
        self._engine = engine
        self._overview = overview

    async def on_call(self, call: Call) -> Result:
        """Answer a worker."""
        # A call that comes while the agent starts must not be answered as if there were no peers.
        await self._engine.started.wait()
        match call:
            case Reach():
                level = await self._reach(call)
                is_less = LEVELS.index(level) < LEVELS.index(call.level)
                if is_less and self._overview is not None and self._engine.neighbours.all():
                    self._overview.degraded()
                return level
            case Find():
                return await self._find(call)
            case Fetch():
                return await self._fetch(Digest(call.digest), call.size)
            case Beyond():
                reached = await self._engine.transfers.wait_beyond(Digest(call.digest), call.number, call.offset)
                return -1 if reached is None else reached
            case AskUpstream() | SizeUpstream() | FetchUpstream():
                return await self._ask_upstream(call)
            case Locate():
                return msgspec.json.encode(await whereabouts(self._engine, call.records, call.blobs)).decode()
            case Status():
                if self._overview is None:
                    raise Unavailable("nothing is known of the cluster yet")
                return msgspec.json.encode(await self._overview.document()).decode()

    async def _ask_upstream(self, call: UpstreamCall) -> Result:
        if self._upstreams is None:
            raise Unavailable("this node asks no other registries")
        return await self._upstreams(call)

    def on_notice(self, notice: Notice) -> None:
        """Take note of an upload's progress."""
        match notice:
            case Grown():
                if self._engine.tails.grew(notice.upload_id, notice.size):
                    self._engine.offer(UploadGrew(upload_id=notice.upload_id))
            case Ended():
                digest = Digest(notice.digest) if notice.digest is not None else None
                if self._engine.tails.ended(notice.upload_id, digest):
                    # At once, ahead of the change that names the blob: who followed it must not begin to fetch it.
                    self._engine.offer(UploadEnded(upload_id=notice.upload_id, digest=digest))
                elif digest is not None and self._engine.feeds:
                    self._engine.spawn(self._send_if_small(digest))

    async def _send_if_small(self, digest: Digest) -> None:
        engine = self._engine

        def read() -> bytes | None:
            size = engine.blobs.stat(digest)
            if size is None or size > INLINE_BLOB_BYTES_MAX:
                return None
            return engine.blobs.read(digest, 0, size)

        try:
            content = await in_thread(engine.executor, read)
        except TwinhullError as error:
            log.debug("small blob not sent along", digest=digest, error=str(error))
            return
        if content is not None:
            engine.offer(InlineBlob(digest=digest, content=content))

    # -- durability ------------------------------------------------------------------------------------------------

    async def _reach(self, call: Reach) -> str:
        engine = self._engine
        engine.wrote(call.seq)
        if engine.neighbours.is_removed:
            raise DurabilityUnreached("written here only: this node was removed from its cluster", hint=REMOVED_HINT)
        if call.level == "local" or not engine.neighbours.all():
            return "local"
        have = await engine.acknowledgements.wait(call.seq)
        expected = {neighbour.node.id: neighbour.node.name for neighbour in engine.neighbours.active()}
        if call.refuse and not expected.keys() <= have:
            names = ", ".join(sorted(name for node, name in expected.items() if node not in have))
            raise DurabilityUnreached(f"written here, but not confirmed by {names}", hint="see `twinhull cluster status`")
        if not have:
            return "local"
        if call.level == "full":
            if await self._hold(call.blobs, have):
                return "full"
            if call.refuse:
                raise DurabilityUnreached("written here, but its blobs are not on enough peers yet")
        return "metadata"

    async def _hold(self, blobs: list[tuple[str, int]], nodes: set[str]) -> bool:
        """Tell whether enough peers have all these blobs, once they say so."""
        wanted = self._engine.settings.full_copies
        asked = [neighbour for neighbour in self._engine.neighbours.active() if neighbour.node.id in nodes]
        answers = [asyncio.ensure_future(self._held_at(neighbour, blobs)) for neighbour in asked]
        confirmed = 0
        try:
            for answer in asyncio.as_completed(answers):
                confirmed += await answer
                if confirmed >= wanted:
                    return True
        finally:
            for answer in answers:
                answer.cancel()
        return False

    async def _held_at(self, neighbour: Neighbour, blobs: list[tuple[str, int]]) -> bool:
        """Tell whether the peer has all these blobs; a peer that has fallen silent is not waited for."""
        state = self._engine.acknowledgements.peer(neighbour.node.id)
        answer = asyncio.ensure_future(neighbour.client.hold(blobs, timeout_s=_HOLD_TIMEOUT_S))
        try:
            while not (await asyncio.wait([answer], timeout=self._engine.settings.ack_timeout_s))[0]:
                silent_s = self._engine.clock.monotonic_s() - state.heard_s
                if not state.subscribed or silent_s > self._engine.settings.ack_timeout_s:
                    log.warning("peer fell silent before it held the blobs", peer=neighbour.node.id)
                    return False
            answer.result()
        except TwinhullError as error:
            log.warning("peer does not hold the blobs", peer=neighbour.node.id, error=str(error))
            return False
        finally:
            answer.cancel()
        return True

    # -- questions -------------------------------------------------------------------------------------------------

    async def _find(self, call: Find) -> bool:
        asked = [neighbour for neighbour in self._engine.neighbours.active() if neighbour.puller.is_worth_asking()]
        answers = await asyncio.gather(*(self._find_at(neighbour, call) for neighbour in asked))
        records = [record for answer in answers for record in answer]
        if records:
            merged = await in_thread(self._engine.executor, merge_records, self._engine.store, records)
            if merged.refused:
                log.warning("peer's answer cannot be taken", kind=call.kind, key=call.key, reason=merged.refused[0])
            records = merged.taken
        # Also when the stream has brought them in the meantime: the caller looked before that, and has to look again.
        return bool(records)

    async def _find_at(self, neighbour: Neighbour, call: Find) -> list[Change]:
        began_s = self._engine.clock.monotonic_s()
        if not neighbour.puller.reachable:
            # One question finds out whether it is back; others do not wait for that.
            neighbour.puller.gave_no_answer(_FIND_TIMEOUT_S)
        try:
            records = await neighbour.client.find(call.kind, call.key, timeout_s=_FIND_TIMEOUT_S)
        except TwinhullError as error:
            log.debug("peer gave no answer", peer=neighbour.node.id, error=str(error))
            neighbour.puller.gave_no_answer(self._engine.clock.monotonic_s() - began_s)
            return []
        neighbour.puller.answered()
        return records

    async def _fetch(self, digest: Digest, size: int) -> str:
        engine = self._engine
        if await in_thread(engine.executor, engine.blobs.stat, digest) is not None:
            return ""
        transfer = engine.transfers.start(digest, size)
        await transfer.wait_beyond(0)
        return "" if transfer.ended.done() else f"{transfer.number} {transfer.upload_id}"

    async def hold(self, blobs: list[tuple[str, int]]) -> None:
        """Return when all these blobs are on this node's disk: a peer's push waits for it."""
        engine = self._engine
        for digest, size in blobs:
            if await in_thread(engine.executor, engine.blobs.stat, Digest(digest)) is None:
                await asyncio.shield(engine.transfers.start(Digest(digest), size).ended)
