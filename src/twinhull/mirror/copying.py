"""Copies artifacts from one registry to another, with all that belongs to them; and deletes what is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from twinhull.catalog.media import ParsedManifest, parse_manifest
from twinhull.kit.clock import Clock
from twinhull.kit.digest import Digest
from twinhull.kit.errors import TooMany, TwinhullError, Unavailable
from twinhull.kit.reference import is_digest
from twinhull.mirror.selection import Candidate
from twinhull.mirror.sides import Destination, Manifest, Pieces, Source

# So many blobs of one manifest are on their way at once.
BLOBS_AT_ONCE: Final = 3
_BLOB_KB: Final = 1000
# Shown of a digest in a log.
_SHORT: Final = 19

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """From where to where, and how."""

    source: str
    destination: str
    # Whether a tag that names something else at the destination is moved.
    override: bool
    # Kilobytes per second; 0: as fast as it goes.
    speed_kb: int = 0
    # Whether a tag is copied only while it names the digest that the order was given for.
    exact: bool = False


@dataclass(slots=True)
class Figures:
    """What has been done."""

    artifacts: int = 0
    skipped: int = 0
    deleted: int = 0
    blobs: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        """Return them as a line of a log."""
        return (
            f"{self.artifacts} artifacts copied with {self.blobs} blobs of {self.bytes} bytes,"
            f" {self.deleted} deleted, {self.skipped} skipped"
        )


class Copying:
    """Carries out the orders for one repository."""

    def __init__(
        self,
        source: Source,
        destination: Destination,
        order: Order,
        *,
        log: Log,
        clock: Clock,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Take both sides, the order, where to write what was done, and how time passes."""
        self._source = source
        self._destination = destination
        self._order = order
        self._log = log
        self._clock = clock
        self._pause = pause
        self._free_s = 0.0
        self._seen: set[Digest] = set()
        self.figures = Figures()

    async def copy(self, candidate: Candidate) -> None:
        """Bring an artifact, and what belongs to it, to the destination; what is there already is left alone.

        Raises what the sides raise, ManifestInvalid for what no registry should have taken.
        """
        digest = await self._digest_of(candidate)
        name = f"{self._order.source}@{digest[:_SHORT]}"
        tags = await self._tags_to_move(candidate, digest) if digest else None
        if not digest or (candidate.tags and tags is None):
            if not digest:
                self._log(f"{name} {_listed(candidate.tags)}is not at the source any more: skipped")
            self.figures.skipped += 1
            return
        there = await self._destination.digest(self._order.destination, digest) is not None
        if there and not tags:
            self._log(f"{name} {_listed(candidate.tags)}is at the destination already: skipped")
            self.figures.skipped += 1
        elif not await self._bring(digest, tags or (), name, there=there):
            return
        await self._copy_accessories(digest)

    async def delete(self, candidate: Candidate) -> None:
        """Delete at the destination a tag, or an artifact by its digest, that was deleted at the source.

        What has been pushed to the source again since stays, and so does a tag that names what the source does not have:
        whoever deleted the tag has not seen that. Raises what the sides raise.
        """
        for reference in candidate.tags or (candidate.digest,):
            name = f"{self._order.destination}{'@' if is_digest(reference) else ':'}{reference}"
            if await self._source.digest(self._order.source, reference) is not None:
                self._log(f"{name} is at the source again: kept")
                self.figures.skipped += 1
                continue
            if candidate.tags and candidate.digest:
                held = await self._destination.digest(self._order.destination, reference)
                if held not in (None, candidate.digest) and await self._source.digest(self._order.source, str(held)) is None:
                    self._log(f"{name} names something else at the destination: kept")
                    self.figures.skipped += 1
                    continue
            if await self._destination.delete(self._order.destination, reference):
                self._log(f"{name} deleted")
                self.figures.deleted += 1
            else:
                self._log(f"{name} is not at the destination: nothing to delete")
                self.figures.skipped += 1

    # -- manifests -------------------------------------------------------------------------------------------------

    async def _digest_of(self, candidate: Candidate) -> Digest:
        """Return which artifact that is, which sources that list tags alone do not say; empty when it is gone."""
        if candidate.digest or not candidate.tags:
            return Digest(candidate.digest)
        return await self._source.digest(self._order.source, candidate.tags[0]) or Digest("")

    async def _bring(self, digest: Digest, tags: Sequence[str], name: str, *, there: bool) -> bool:
        manifest = await self._source.manifest(self._order.source, digest)
        if manifest is None:
            self._log(f"{name} is not at the source any more: skipped")
            self.figures.skipped += 1
            return False
        began_s, before = self._clock.monotonic_s(), self.figures.bytes
        await self._put(manifest, tags, there=there)
        self.figures.artifacts += 1
        took_s, size = self._clock.monotonic_s() - began_s, self.figures.bytes - before
        self._log(f"{name} {_listed(tags)}copied: {size} bytes in {took_s:.1f} s")
        return True

    async def _tags_to_move(self, candidate: Candidate, digest: Digest) -> tuple[str, ...] | None:
        """Return the tags that do not name the artifact at the destination yet and may; None if no tag does or may."""
        found: list[str] = []
        named = False
        for tag in candidate.tags:
            if self._order.exact and await self._source.digest(self._order.source, tag) != digest:
                # Another event tells of what it names now; copied late, the old content would come after the new.
                self._log(f"{self._order.source}:{tag} names something else by now: skipped")
                continue
            held = await self._destination.digest(self._order.destination, tag)
            if held == digest:
                named = True
            elif held is not None and not self._order.override:
                self._log(f"{self._order.destination}:{tag} names {held[:_SHORT]}, and the policy does not override: skipped")
            else:
                found.append(tag)
        return tuple(found) if found or named else None

    async def _put(self, manifest: Manifest, tags: Sequence[str], *, there: bool) -> None:
        """Put a manifest with what it names, in this order: a destination takes none that names what it does not have."""
        if not there:
            parsed = parse_manifest(manifest.content, manifest.media_type)
            await self._put_children(parsed)
            await self._put_blobs(parsed)
            if not tags:
                await self._destination.put_manifest(self._order.destination, manifest)
        for tag in tags:
            await self._destination.put_manifest(self._order.destination, manifest, tag)

    async def _put_children(self, parsed: ParsedManifest) -> None:
        for child in parsed.manifests:
            if child in self._seen:
                continue
            self._seen.add(child)
            if await self._destination.digest(self._order.destination, child) is not None:
                continue
            manifest = await self._source.manifest(self._order.source, child)
            if manifest is None:
                # A destination that takes an index with gaps may; one that does not says so.
                self._log(f"{child[:_SHORT]}, which an index lists, is not at the source: left out")
                continue
            await self._put(manifest, (), there=False)
            await self._copy_accessories(child)

    async def _copy_accessories(self, digest: Digest) -> None:
        for accessory in await self._source.accessories(self._order.source, digest):
            own = Digest(accessory.digest)
            if own in self._seen:
                continue
            self._seen.add(own)
            destination = self._order.destination
            there = await self._destination.digest(destination, own) is not None
            tags = [tag for tag in accessory.tags if await self._destination.digest(destination, tag) != own]
            manifest = await self._source.manifest(self._order.source, own) if tags or not there else None
            if manifest is not None:
                await self._put(manifest, tags, there=there)
                self.figures.artifacts += 1
                self._log(f"{self._order.source}@{own[:_SHORT]} copied: it belongs to {digest[:_SHORT]}")
            await self._copy_accessories(own)

    # -- blobs -----------------------------------------------------------------------------------------------------

    async def _put_blobs(self, parsed: ParsedManifest) -> None:
        waiting = iter(parsed.required_blobs.items())

        async def bring() -> None:
            # Whoever is free takes the next one.
            for digest, size in waiting:
                await self._put_blob(digest, size)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(BLOBS_AT_ONCE, len(parsed.required_blobs))):
                    group.create_task(bring())
        except* TwinhullError as failures:
            raise _first(failures) from None

    async def _put_blob(self, digest: Digest, size: int) -> None:
        if await self._destination.has_blob(self._order.destination, digest):
            return
        pieces = self._source.blob(self._order.source, digest, size)
        await self._destination.put_blob(self._order.destination, digest, size, self._paced(pieces))
        self.figures.blobs += 1
        self.figures.bytes += size

    def _paced(self, pieces: Pieces) -> Pieces:
        rate = self._order.speed_kb * _BLOB_KB
        if not rate:
            return pieces

        async def paced(start: int) -> AsyncGenerator[bytes]:
            async with aclosing(pieces(start)) as given:
                async for piece in given:
                    # All blobs of the task share its limit.
                    now_s = self._clock.monotonic_s()
                    self._free_s = max(now_s, self._free_s) + len(piece) / rate
                    await self._pause(self._free_s - now_s)
                    yield piece

        return paced


def _listed(tags: Sequence[str]) -> str:
    return f"({', '.join(tags)}) " if tags else ""


def _first(failures: BaseExceptionGroup[TwinhullError]) -> TwinhullError:
    """Return one failure of several: one that passes if there is any, for then another try makes sense."""
    found = [_first(each) if isinstance(each, BaseExceptionGroup) else each for each in failures.exceptions]
    return next((each for each in found if isinstance(each, Unavailable | TooMany)), found[0])
