"""The registries that projects stand for: which one it is, how a repository is called there, and a client that is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from twinhull.auth.sealing import Sealer
from twinhull.catalog.foreign import Endpoint, endpoint_of
from twinhull.kit.digest import Digest
from twinhull.kit.errors import RegistryLacks, RegistryUnreachable
from twinhull.kit.reference import project_of
from twinhull.metadata.accounts import find_project
from twinhull.metadata.documents import find_named
from twinhull.metadata.store import Store
from twinhull.mirror.registry_client import RegistryClient
from twinhull.records.kinds import REGISTRY
from twinhull.replication.threads import in_thread

# As Harbor calls it: how many kilobytes a second a project's blobs may come with, each.
_SPEED_KEY: Final = "proxy_speed_kb"
_CLIENTS_MAX: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A repository as the registry that its project stands for has it; where transfers get blobs from."""

    # The endpoint's name.
    registry: str
    client: RegistryClient
    # The repository's name there.
    repository: str
    # 0 for as many as come.
    bytes_per_s: int = 0

    @property
    def name(self) -> str:
        """What to call it beside the peers."""
        return self.registry

    @asynccontextmanager
    async def open(self, digest: Digest, start: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give a blob's bytes from `start` on; fails as requests of registries do."""
        async with self.client.blob(self.repository, digest, start) as blob:
            yield paced(blob.pieces(), self.bytes_per_s) if self.bytes_per_s else blob.pieces()


class Upstreams:
    """Finds the upstream of a repository. Lives on one event loop, and keeps the clients until it is closed."""

    def __init__(self, store: Store, executor: Executor, sealer: Sealer) -> None:
        """Take what knows projects and registries, threads to look in, and what unseals secrets."""
        self._store = store
        self._executor = executor
        self._sealer = sealer
        self._clients: dict[Endpoint, RegistryClient] = {}

    async def of(self, repository: str) -> Upstream:
        """Return where a repository's content comes from.

        Raises RegistryLacks for one of a project that stands for nothing but itself, RegistryUnreachable when the registry is
        not known any more, and what unsealing its secret raises.
        """
        registry, endpoint, bytes_per_s = await in_thread(self._executor, self._read, project_of(repository))
        client = self._clients.pop(endpoint, None) or RegistryClient(endpoint)
        self._clients[endpoint] = client
        if len(self._clients) > _CLIENTS_MAX:
            await self._clients.pop(next(iter(self._clients))).close()
        return Upstream(registry=registry, client=client, repository=repository.partition("/")[2], bytes_per_s=bytes_per_s)

    async def close(self) -> None:
        """Hang up."""
        while self._clients:
            await self._clients.popitem()[1].close()

    def _read(self, name: str) -> tuple[str, Endpoint, int]:
        with self._store.read() as connection:
            project = find_project(connection, name)
            if project is None or not project.registry:
                raise RegistryLacks(f"project {name} stands for no other registry")
            registry = find_named(connection, REGISTRY, [project.registry]).get(project.registry)
        if registry is None:
            raise RegistryUnreachable(f"the registry {project.registry} that project {name} stands for is not known any more")
        speed = project.metadata.get(_SPEED_KEY, "")
        return registry.name, endpoint_of(registry, self._sealer), int(speed) * 1024 if speed.isdecimal() else 0


async def paced(pieces: AsyncIterator[bytes], bytes_per_s: int) -> AsyncIterator[bytes]:
    """Give the pieces no faster than that, on the whole."""
    loop = asyncio.get_running_loop()
    began_s, given = loop.time(), 0
    async for piece in pieces:
        yield piece
        given += len(piece)
        await asyncio.sleep(max(0.0, began_s + given / bytes_per_s - loop.time()))
