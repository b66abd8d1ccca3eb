"""One collection of garbage, in time that grows with the garbage and not with what is stored.

A blob is needed as long as a manifest or a link names it, on any node. What lost a name is a candidate, noted by the
projections. A collection takes the candidates whose grace is over in two turns. First the links that no manifest of their
repository needs are deleted, through the log like every write, so that a link renewed elsewhere outlives that. Then bytes
that nothing names are removed, once every other member has said, from a state that has all that any member had written
when the collection began, that it does not need them either; and after one more look inside the writing transaction. A member
that cannot be asked may need everything.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

from sqlalchemy import Connection

from twinhull.blobs.store import BlobStore
from twinhull.jobs.garbage_collections import Order, Outcome
from twinhull.kit.clock import Clock
from twinhull.kit.digest import Digest
from twinhull.kit.fail_points import fail_point
from twinhull.metadata import garbage, members
from twinhull.metadata.garbage import InRepository
from twinhull.metadata.transaction import Transaction
from twinhull.records.change import VersionVector
from twinhull.records.kinds import BLOB, MANIFEST, content_key
from twinhull.replication.protocol import KeptQuery
from twinhull.upkeep.access import Access
from twinhull.upkeep.judging import Verdict, judge_bytes, judge_in_repository
from twinhull.upkeep.witnesses import Witnesses

# So many at a time, so that no writer waits long for the turn of the collector.
_ROWS: Final = 250
# Members are asked about so many blobs at a time.
_ASKED: Final = 1000
# What lost a name on another member within this share of the grace stays: replication takes less than that.
_QUIET_SHARE: Final = 0.5


class _Swept(NamedTuple):
    blobs: int
    freed_bytes: int
    kept: int


class Collector:
    """Collects the garbage of this node. Used on the agent's event loop."""

    def __init__(
        self,
        *,
        access: Access,
        blobs: BlobStore,
        witnesses: Witnesses,
        clock: Clock,
    ) -> None:
        """Take what is known and what is here, and whom to ask."""
        self._access = access
        self._blobs = blobs
        self._witnesses = witnesses
        self._clock = clock

    async def collect(self, order: Order, outcome: Outcome, *, grace_s: float) -> AsyncGenerator[None, None]:
        """Do what is ordered, step by step, adding to the outcome; may be left after any step.

        Raises PeerUnavailable when bytes stay because a member could not be asked, Conflict while a backup holds them.
        """
        began_ms = self._clock.unix_ms()
        due_ms = began_ms - int(grace_s * 1000)
        if order.walk:
            async for strays in self._walk(due_ms):
                outcome.strays += strays
                yield
        if order.delete_untagged:
            async for manifests in self._untagged(due_ms, dry_run=order.dry_run):
                outcome.manifests += manifests
                yield
        await self._access.write(lambda transaction: garbage.begin_grace(transaction.connection, began_ms))
        unlinked: set[tuple[str, str]] = set()
        async for links in self._unlink(due_ms, dry_run=order.dry_run):
            outcome.links += len(links)
            # Only a dry run, which leaves them in place, needs to know later what it would have deleted.
            unlinked.update(links if order.dry_run else ())
            yield
        async for swept in self._sweep(due_ms, unlinked, quiet_s=grace_s * _QUIET_SHARE, dry_run=order.dry_run):
            outcome.blobs += swept.blobs
            outcome.freed_bytes += swept.freed_bytes
            outcome.kept += swept.kept
            yield

    # -- what no record knows --------------------------------------------------------------------------------------

    async def _walk(self, due_ms: int) -> AsyncIterator[int]:
        """Make candidates of all blobs on the disk that nothing names."""
        digests = self._blobs.digests()
        while page := await self._access.run(lambda: list(islice(digests, _ASKED))):

            def add(transaction: Transaction, page: list[Digest] = page) -> int:
                connection = transaction.connection
                known = garbage.named_among(connection, page) | garbage.candidates_among(connection, page)
                strays = [digest for digest in page if digest not in known]
                # A file that is being taken in at this moment is young, and spared for that.
                garbage.add_strays(connection, strays, max(1, due_ms))
                return len(strays)

            yield await self._access.write(add)

    # -- manifests -------------------------------------------------------------------------------------------------

    async def _untagged(self, due_ms: int, *, dry_run: bool) -> AsyncIterator[int]:
        """Delete manifests that nothing holds, those that only such ones held too."""
        deleted = True
        while deleted:
            deleted, after = False, ("", "")
            while page := await self._access.read(partial(_untagged_page, before_ms=due_ms, after=after)):
                after = page[-1]
                if dry_run:
                    yield len(page)
                    continue

                def delete(transaction: Transaction, page: list[tuple[str, str]] = page) -> int:
                    return sum(
                        transaction.delete(MANIFEST, content_key(repository, digest))
                        for repository, digest in page
                        if garbage.is_untagged(transaction.connection, repository, digest, due_ms)
                    )

                count = await self._access.write(delete)
                deleted = deleted or count > 0
                yield count

    # -- links -----------------------------------------------------------------------------------------------------

    async def _unlink(self, due_ms: int, *, dry_run: bool) -> AsyncIterator[list[tuple[str, str]]]:
        """Delete links that no manifest of their repository needs; give (digest, repository) of each."""
        after = ("", "")
        while True:
            if dry_run:
                page = await self._access.read(partial(_links_page, due_ms=due_ms, after=after))
            else:
                page = await self._access.write(partial(_unlink_page, due_ms=due_ms, after=after))
            if not page:
                return
            after = page[-1].digest, page[-1].repository
            yield [(row.digest, row.repository) for row in page if _verdict(row, due_ms) is Verdict.UNLINK]

    # -- bytes -----------------------------------------------------------------------------------------------------

    async def _sweep(
        self, due_ms: int, unlinked: set[tuple[str, str]], *, quiet_s: float, dry_run: bool
    ) -> AsyncIterator[_Swept]:
        """Remove the bytes that nothing names."""
        cut: VersionVector | None = None
        going, after = sorted({Digest(digest) for digest, _ in unlinked}), ""
        while page := await self._access.read(partial(_bytes_page, due_ms=due_ms, after=after, going=going)):
            after = page[-1]
            doubtful = await self._access.read(partial(_doubtful, digests=page, due_ms=due_ms, unlinked=unlinked))
            if doubtful and cut is None:
                cut = await self._witnesses.cut()
            asked = self._witnesses.asked()
            asking = [link for link in sorted(unlinked) if link[0] in doubtful]
            query = KeptQuery(digests=sorted(doubtful), vector=cut or {}, quiet_s=quiet_s, unlinked=asking)
            kept = await self._witnesses.kept(query) if doubtful else set()
            for start in range(0, len(page), _ROWS):
                part = page[start : start + _ROWS]
                if dry_run:
                    yield await self._would_remove([digest for digest in part if digest in doubtful], kept)
                else:
                    yield await self._remove(part, doubtful - kept, asked, due_ms)

    async def _remove(self, digests: list[Digest], released: set[Digest], asked: frozenset[str], due_ms: int) -> _Swept:
        def remove(transaction: Transaction) -> _Swept:
            connection = transaction.connection
            if {node.id for node in members.nodes(connection)} - {self._access.store.node} - asked:
                # Somebody has joined since the members were asked.
                return _Swept(0, 0, len(digests))
            named = garbage.named_among(connection, digests)
            lately = garbage.unnamed_lately_among(connection, digests, due_ms)
            verdicts = {
                digest: judge_bytes(named=digest in named, lately=digest in lately, released=digest in released)
                for digest in digests
            }
            condemned = [digest for digest, verdict in verdicts.items() if verdict is Verdict.REMOVE]
            waiting = sum(verdict is Verdict.WAIT for verdict in verdicts.values())
            here = {digest for digest in condemned if self._blobs.stat(digest) is not None}
            sizes = self._blobs.discard(condemned, untouched_since_ms=due_ms)
            if sizes:
                fail_point("garbage-discarded")
            # What is here and was spared has been touched: its link is being written, or its grace begins anew.
            spared = here - sizes.keys()
            garbage.begin_grace_again(connection, [(digest, "") for digest in spared], self._clock.unix_ms())
            done = [one for one, verdict in verdicts.items() if verdict is not Verdict.WAIT and one not in spared]
            garbage.drop_candidates(connection, [(digest, "") for digest in done])
            return _Swept(len(sizes), sum(sizes.values()), waiting + len(spared))

        try:
            swept = await self._access.write(remove)
            if swept.blobs:
                fail_point("garbage-forgotten")
            return swept
        finally:
            # Also after a failure: what was discarded has no name, and on a full disk its space is what is wanted.
            await self._access.run(self._blobs.empty_trash)

    async def _would_remove(self, digests: list[Digest], kept: set[str]) -> _Swept:
        def look() -> list[int]:
            return [self._blobs.stat(digest) or 0 for digest in digests if digest not in kept]

        sizes = await self._access.run(look)
        return _Swept(sum(size > 0 for size in sizes), sum(sizes), len(kept.intersection(digests)))


def _untagged_page(connection: Connection, before_ms: int, after: tuple[str, str]) -> list[tuple[str, str]]:
    return garbage.untagged_manifests(connection, before_ms, after, _ROWS)


def _links_page(connection: Connection, due_ms: int, after: tuple[str, str]) -> list[InRepository]:
    return garbage.due_in_repositories(connection, due_ms, after, _ROWS)


def _verdict(row: InRepository, due_ms: int) -> Verdict:
    return judge_in_repository(named=row.named, linked_ms=row.linked_ms, due_ms=due_ms)


def _unlink_page(transaction: Transaction, due_ms: int, after: tuple[str, str]) -> list[InRepository]:
    """Settle a page of candidates in repositories, and return it."""
    connection = transaction.connection
    page = _links_page(connection, due_ms, after)
    for row in page:
        candidate = (row.digest, row.repository)
        match _verdict(row, due_ms):
            case Verdict.UNLINK:
                # What becomes of the candidate is the projection's part.
                transaction.delete(BLOB, content_key(row.repository, row.digest))
            case Verdict.WAIT:
                garbage.begin_grace_again(connection, [candidate], row.linked_ms or 0)
            case Verdict.LOOK_AT_BYTES:
                garbage.look_at_bytes(connection, candidate)
            case _:
                garbage.drop_candidates(connection, [candidate])
    return page


def _bytes_page(connection: Connection, due_ms: int, after: str, going: list[Digest]) -> list[Digest]:
    found = garbage.due_on_disk(connection, due_ms, after, _ASKED)
    if not going:
        return found
    # Those whose links a dry run has left in place are no candidates of this kind yet.
    first = bisect_right(going, after)
    return sorted({*found, *going[first : first + _ASKED]})[:_ASKED]


def _doubtful(connection: Connection, digests: list[Digest], due_ms: int, unlinked: set[tuple[str, str]]) -> set[Digest]:
    """Return those whose bytes nothing needs as far as this node knows, nor needed until lately."""
    return set(digests) - garbage.needed_among(connection, digests, due_ms, unlinked)
