"""Registries as sides of a replication: Debian's docker-registry and a node of our own, filled from memory and read back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import pytest
from aiohttp import web

from tests.support.plain_registry import SECRET, USER, PlainRegistry, plain_registry
from tests.support.replications import Desk
from tests.support.served import served
from tests.support.sides import MemoryRegistry
from tests.support.single import SingleNode, running_node
from twinhull.catalog.foreign import Endpoint
from twinhull.kit.clock import SystemClock
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import RegistryRefused, RegistryRejected, RegistryUnreachable, Unavailable
from twinhull.mirror import registry_writer
from twinhull.mirror.copying import Copying, Order
from twinhull.mirror.harbor import HarborRegistry
from twinhull.mirror.plain import PlainRegistry as PlainSide
from twinhull.mirror.registry_client import RegistryClient
from twinhull.mirror.registry_writer import RegistryWriter
from twinhull.mirror.selection import Candidate, Selection
from twinhull.mirror.sides import Pieces

HERE: Final = "library/app"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainRegistry]:
    """A docker-registry that wants a password."""
    with plain_registry(tmp_path_factory.mktemp("plain"), private=True) as registry:
        yield registry


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SingleNode]:
    """A Twinhull node, which is a Harbor to others."""
    with running_node(tmp_path_factory.mktemp("node")) as running:
        yield running


def endpoint_of(other: PlainRegistry | SingleNode) -> Endpoint:
    """Return how it is reached."""
    if isinstance(other, SingleNode):
        return Endpoint(kind="harbor", url=f"http://{other.address}", access_key=other.user, access_secret=other.password)
    return Endpoint(kind="docker-registry", url=other.url, access_key=USER, access_secret=SECRET)


@asynccontextmanager
async def side_of(other: PlainRegistry | SingleNode, *, by_chunk: bool = False) -> AsyncIterator[PlainSide]:
    """Give the side that it is."""
    kind = HarborRegistry if isinstance(other, SingleNode) else PlainSide
    side = kind(endpoint_of(other), by_chunk=by_chunk)
    try:
        yield side
    finally:
        await side.close()


@pytest.fixture(params=["plain", "node"])
def other(request: pytest.FixtureRequest) -> PlainRegistry | SingleNode:
    """One after the other."""
    found: PlainRegistry | SingleNode = request.getfixturevalue(request.param)
    return found


async def copied(
    source: MemoryRegistry | PlainSide, target: MemoryRegistry | PlainSide, there: str, *, back: bool = False
) -> str:
    """Copy all of a repository, and return the log."""
    lines: list[str] = []
    names = (there, HERE) if back else (HERE, there)
    order = Order(source=names[0], destination=names[1], override=True)
    copying = Copying(source, target, order, log=lines.append, clock=SystemClock())
    await target.prepare(order.destination, public=False)
    async for candidate in source.candidates(order.source):
        await copying.copy(candidate)
    return "\n".join(lines)


def filled() -> MemoryRegistry:
    """Return a registry with two images, an index of them, and a signature of one."""
    source = MemoryRegistry()
    children = [source.push_image(HERE, text, text) for text in ("amd64", "arm64")]
    source.push_index(HERE, children, "multi")
    source.push_image(HERE, "signature", subject=children[0])
    return source


async def test_all_of_a_repository_goes_there_and_comes_back(other: PlainRegistry | SingleNode) -> None:
    source, back = filled(), MemoryRegistry()
    async with side_of(other) as side:
        await copied(source, side, "round/trip")
        again = await copied(source, side, "round/trip")
        assert "copied" not in again, again
        await copied(side, back, "round/trip", back=True)
        assert [name async for name in side.repositories(Selection([{"type": "name", "value": "round/*"}]))] == ["round/trip"]
    assert {key: one for key, one in back.manifests.items() if key[1] not in {d for _, d in source.manifests}} == {}
    assert set(back.manifests) == set(source.manifests)
    assert back.tags == source.tags
    assert back.blobs == source.blobs


async def test_one_project_is_made_for_what_comes_and_tells_whether_it_is_public(node: SingleNode) -> None:
    async with side_of(node) as side:
        for name, public in (("open", True), ("closed", False)):
            await side.prepare(f"{name}/app", public=public)
            await side.prepare(f"{name}/app", public=not public)
            assert await side.is_public(f"{name}/app") is public
        assert not await side.is_public("nothing/app")


async def test_blobs_are_sent_in_chunks(other: PlainRegistry | SingleNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinhull.mirror.plain.CHUNK_BYTES", 1000)
    content = bytes(range(256)) * 10
    async with side_of(other, by_chunk=True) as side:
        await side.prepare("chunks/app", public=False)
        digest = digest_of(content)
        await side.put_blob("chunks/app", digest, len(content), _pieces(content))
        assert await side.has_blob("chunks/app", digest)
        read = b"".join([piece async for piece in side.blob("chunks/app", digest, len(content))(0)])
        assert read == content


async def test_blobs_by_sha512_are_taken(node: SingleNode) -> None:
    content = b"of a longer name" * 100
    digest = digest_of(content, "sha512")
    async with side_of(node) as side:
        await side.prepare("long/app", public=False)
        await side.put_blob("long/app", digest, len(content), _pieces(content))
        assert b"".join([piece async for piece in side.blob("long/app", digest, len(content))(0)]) == content


async def test_a_manifest_by_sha512_keeps_its_digest_under_its_tag_or_is_refused(other: PlainRegistry | SingleNode) -> None:
    source = MemoryRegistry()
    usual = source.push_image(HERE, "long", "v1")
    found = source.manifests.pop((HERE, usual))
    digest = digest_of(found.content, "sha512")
    source.manifests[HERE, digest] = replace(found, digest=digest)
    source.tags[HERE, "v1"] = digest
    async with side_of(other) as side:
        if isinstance(other, PlainRegistry):
            with pytest.raises(RegistryRejected):
                await copied(source, side, "long/image")
        else:
            await copied(source, side, "long/image")
            assert await side.digest("long/image", "v1") == digest
            assert await side.digest("long/image", usual) is None


async def test_a_blob_that_is_in_another_repository_there_is_not_sent(other: PlainRegistry | SingleNode) -> None:
    content = b"of two repositories"
    digest = digest_of(content)
    async with side_of(other) as side:
        for name in ("mounts/one", "mounts/two"):
            await side.prepare(name, public=False)
        assert not await side.has_blob("mounts/two", digest)
        await side.put_blob("mounts/one", digest, len(content), _pieces(content))
        assert await side.has_blob("mounts/two", digest)
    # What remembers nothing sees where it was mounted, and where it was not.
    async with side_of(other) as side:
        assert not await side.has_blob("mounts/three", digest)
        assert await side.has_blob("mounts/two", digest)


async def test_a_source_that_breaks_is_what_is_told(other: PlainRegistry | SingleNode) -> None:
    async def broken(start: int) -> AsyncGenerator[bytes]:
        yield b"some"[start:]
        raise Unavailable("the source is gone")

    async with side_of(other) as side:
        await side.prepare("broken/app", public=False)
        with pytest.raises(Unavailable, match="the source is gone"):
            await side.put_blob("broken/app", digest_of(b"more"), 1000, broken)


async def test_an_upload_goes_on_where_the_registry_is_if_it_knows(other: PlainRegistry | SingleNode) -> None:
    content = bytes(range(256)) * 4096
    asked: list[int] = []

    async def breaks_once(start: int) -> AsyncGenerator[bytes]:
        asked.append(start)
        yield content[start : start + 1000]
        if len(asked) == 2:
            raise RegistryUnreachable("the line is broken")
        yield content[start + 1000 :]

    async with side_of(other) as side:
        await side.prepare("resumed/app", public=False)
    async with RegistryClient(endpoint_of(other)) as client:
        writer = RegistryWriter(client, chunk_bytes=400_000, pause_s=0.0)
        await writer.put_blob("resumed/app", digest_of(content), len(content), breaks_once)
        assert await writer.has_blob("resumed/app", digest_of(content))
    assert asked[:2] == [0, 400_000]
    # Debian's gives an upload up when a part of it breaks off: then it begins anew.
    assert asked[2] >= 400_000 or isinstance(other, PlainRegistry)


async def test_a_registry_that_says_too_late_where_it_is_is_asked_again() -> None:
    content = bytes(range(250)) * 4
    registry = _Late()
    async with registry.running() as url, RegistryClient(Endpoint(kind="docker-registry", url=url)) as client:
        writer = RegistryWriter(client, chunk_bytes=400, pause_s=0.0)
        await writer.put_blob("late/app", digest_of(content), len(content), _pieces(content))
    assert bytes(registry.content) == content
    assert registry.refused == 1


async def test_no_upload_is_sent_to_another_host() -> None:
    async with _Late("127.0.0.2").running() as url, RegistryClient(Endpoint(kind="docker-registry", url=url)) as client:
        writer = RegistryWriter(client, pause_s=0.0)
        with pytest.raises(RegistryUnreachable, match="sent to another place"):
            await writer.put_blob("late/app", digest_of(b"x"), 1, _pieces(b"x"))


class _Late:
    """Takes an upload; when its first part has come it cuts the line, and only then counts what it has."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self.content = bytearray()
        self.counted = 0
        self.refused = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve on loopback."""
        application = web.Application()
        application.router.add_post("/v2/late/app/blobs/uploads/", self._begin)
        for method, handler in (("GET", self._status), ("PATCH", self._take), ("PUT", self._finish)):
            application.router.add_route(method, "/v2/late/app/blobs/uploads/one", handler)
        async with served(application) as url:
            yield url

    async def _begin(self, _request: web.Request) -> web.Response:
        # As one does that does not know by which scheme and port it is reached.
        return web.Response(status=202, headers={"Location": f"https://{self._host}:1/v2/late/app/blobs/uploads/one"})

    async def _status(self, _request: web.Request) -> web.Response:
        return web.Response(status=204, headers={"Range": f"0-{self.counted - 1}"})

    async def _take(self, request: web.Request) -> web.Response:
        start = int(request.headers["Content-Range"].partition("-")[0])
        if start != len(self.content):
            self.refused += 1
            self.counted = len(self.content)
            return web.Response(status=416, headers={"Range": f"0-{self.counted - 1}"})
        self.content += await request.read()
        if len(self.content) == 800 and not self.refused:
            self.counted = 400
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=202, headers={"Location": "/v2/late/app/blobs/uploads/one"})

    async def _finish(self, _request: web.Request) -> web.Response:
        return web.Response(status=201)


async def test_deletions_reach_a_harbor(node: SingleNode) -> None:
    source = filled()
    async with side_of(node) as side:
        await copied(source, side, "deleted/app")
        arm64 = source.tags[HERE, "arm64"]
        assert await side.delete("deleted/app", "arm64")
        assert await side.digest("deleted/app", "arm64") is None
        assert await side.digest("deleted/app", arm64) == arm64
        assert not await side.delete("deleted/app", "arm64")
        multi = source.tags[HERE, "multi"]
        assert await side.delete("deleted/app", multi)
        assert await side.digest("deleted/app", "multi") is None
        assert not await side.delete("nobody/knows", multi)


async def test_an_old_registry_deletes_manifests_and_no_tag_alone(plain: PlainRegistry) -> None:
    source = filled()
    async with side_of(plain) as side:
        await copied(source, side, "deleted/app")
        with pytest.raises(RegistryRejected, match="older registries delete no tag alone"):
            await side.delete("deleted/app", "arm64")
        assert await side.delete("deleted/app", source.tags[HERE, "multi"])
        assert await side.digest("deleted/app", "multi") is None


async def test_what_a_registry_refuses_is_told_with_its_words(node: SingleNode) -> None:
    async with side_of(node) as side:
        await side.prepare("refusing/app", public=False)
        source = filled()
        manifest = source.manifests[HERE, source.tags[HERE, "multi"]]
        with pytest.raises(RegistryRejected, match="MANIFEST_BLOB_UNKNOWN"):
            await side.put_manifest("refusing/app", manifest)


async def test_what_is_forbidden_is_told_with_its_words(node: SingleNode) -> None:
    desk = Desk(node.address)
    desk.ask("POST", "/projects", {"project_name": "tight", "storage_limit": 10}).expect(201)
    content = b"more than fits in there"
    async with side_of(node) as side:
        with pytest.raises(RegistryRefused, match=r"DENIED .* will exceed the configured upper limit"):
            await side.put_blob("tight/app", digest_of(content), len(content), _pieces(content))


async def test_candidates_of_a_harbor_have_tags_and_types(node: SingleNode) -> None:
    source = filled()
    async with side_of(node) as side:
        await copied(source, side, "listed/app")
        found = [one async for one in side.candidates("listed/app")]
        assert sorted(found, key=lambda one: one.tags) == [
            Candidate(digest=source.tags[HERE, tag], tags=(tag,), type="IMAGE") for tag in ("amd64", "arm64", "multi")
        ]
        assert [one async for one in side.candidates("listed/nothing")] == []


def test_chunks_are_as_large_as_harbors() -> None:
    assert registry_writer.CHUNK_BYTES == 10 * 1024 * 1024


def _pieces(content: bytes) -> Pieces:
    async def pieces(start: int) -> AsyncGenerator[bytes]:
        for at in range(start, len(content), 700):
            yield content[at : at + 700]

    return pieces
