"""One blob on its way to this node, as those see it who wait for its bytes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from twinhull.kit.digest import Digest
from twinhull.kit.errors import BlobUnknown

_numbers: Final = itertools.count(1)


class Upstream(Protocol):
    """Where a blob is to be had that no node may have: a foreign registry."""

    @property
    def name(self) -> str:
        """What to call it beside the peers, in logs and figures."""
        ...

    def open(self, digest: Digest, start: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give the blob's bytes from `start` on.

        Raises RegistryUnreachable when it does not answer or breaks off, which is worth another try, and other failures of
        registries, which are not.
        """
        ...


class Transfer:
    """One blob on its way. Readers wait for its progress; it ends once."""

    def __init__(self, digest: Digest | None, size: int, upload_id: str, upstream: Upstream | None = None) -> None:
        """Start at nothing; a followed upload learns its digest at its end."""
        # Tells this transfer from a later one of the same blob.
        self.number = next(_numbers)
        self.digest = digest
        self.size = size
        self.upload_id = upload_id
        # Asked when no peer has it.
        self.upstream = upstream
        self.offset = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # A failure that nobody waits for is not an error of the program.
        self.ended.add_done_callback(lambda future: future.exception() if not future.cancelled() else None)
        self._grew = asyncio.Event()
        self._named = asyncio.Event()
        if digest is not None:
            self._named.set()

    def grew(self, offset: int) -> None:
        """Let readers know that there are bytes up to this offset."""
        self.offset = offset
        self._grew.set()
        self._grew = asyncio.Event()

    def end(self, error: BaseException | None = None) -> None:
        """Let readers know that the blob is here, or why it will not come."""
        if not self.ended.done():
            if error is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(error)
        self._grew.set()
        self._named.set()

    def became(self, digest: Digest, size: int) -> None:
        """Take what the peer has said the followed upload is."""
        self.digest, self.size = digest, size
        self._named.set()

    async def wait_named(self) -> Digest:
        """Return the digest once it is known."""
        await self._named.wait()
        if self.digest is None:
            self.ended.result()
            raise BlobUnknown("the upload ended without becoming a blob")
        return self.digest

    async def wait_beyond(self, offset: int) -> int:
        """Return how many bytes there are, once there are more than `offset` or the transfer has ended well."""
        while self.offset <= offset and not self.ended.done():
            await self._grew.wait()
        if self.ended.done():
            self.ended.result()
        return self.offset
