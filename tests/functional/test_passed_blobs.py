"""Blobs of another registry that can't be kept here: a worker reads them from upstream, whole, in parts, and never wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import pytest

from tests.support.accounts import AccountsNode, site
from tests.support.images import image
from tests.support.proxied import Upstream
from tests.support.pushes import push
from twinhull.auth.subjects import ProjectFacts
from twinhull.catalog.documents import create_document
from twinhull.catalog.peers import BlobSource
from twinhull.kit.digest import Digest
from twinhull.kit.errors import BlobUnknown, PeerUnavailable, QuotaExceeded, RegistryUnreachable, TwinhullError
from twinhull.mirror.proxied import RemoteUpstreams
from twinhull.mirror.upstreams import Upstreams
from twinhull.records.kinds import REGISTRY
from twinhull.replication.link import Call, Notice, Result

__all__ = ["site"]

IMAGE: Final = image("passed on", layer_bytes=3_000_000)
LAYER: Final = IMAGE.blobs[1]
DIGEST: Final = Digest(LAYER.digest)
REPOSITORY: Final = "proxy/team/app"


class NoAgent:
    """A link whose agent keeps nothing, for one reason or another."""

    def __init__(self) -> None:
        self.failure: Callable[[], TwinhullError] = PeerUnavailable

    async def call(self, _call: Call) -> Result:
        raise self.failure()

    def notify(self, _notice: Notice) -> None:
        pass


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """A docker-registry with an image in it, behind a line."""
    upstream = Upstream(tmp_path_factory.mktemp("upstream"))
    push(upstream.registry.repository("team/app"), IMAGE, "v1")
    yield upstream
    upstream.close()


@pytest.fixture
def upstream(shared: Upstream) -> Iterator[Upstream]:
    """The same, mended after the test."""
    yield shared
    shared.mend()


@pytest.fixture
async def link() -> NoAgent:
    """The way to an agent that is not there."""
    return NoAgent()


@pytest.fixture
async def upstreams(site: AccountsNode, upstream: Upstream, link: NoAgent) -> AsyncIterator[RemoteUpstreams]:
    """What a worker asks, of a node with a project that stands for the registry."""
    with site.store.write() as transaction:
        fields = {"type": "docker-registry", "url": upstream.url, "insecure": True}
        registry = create_document(transaction, REGISTRY, fields, name="hub")
    await site.admin.create("/projects", {"project_name": "proxy", "registry_id": registry})

    async def facts_of(_project: str) -> ProjectFacts:
        return ProjectFacts(exists=True, public=True, revived=False, proxied=True)

    clients = Upstreams(site.store, site.executor, site.sealer)
    yield RemoteUpstreams(link, clients, blobs=site.blobs, executor=site.executor, facts_of=facts_of)
    await clients.close()


async def read(source: BlobSource, start: int, end: int) -> bytes:
    """Read from one byte up to another, in pieces as clients are sent them, and let go of it."""
    content = bytearray()
    try:
        while start + len(content) < end:
            content += await source.read(start + len(content), min(100_000, end - start - len(content)))
    finally:
        await source.close()
    return bytes(content)


@pytest.mark.parametrize("failure", [PeerUnavailable, QuotaExceeded])
@pytest.mark.parametrize("start", [0, 1, 2_000_000])
async def test_blob_is_read_from_any_byte_on(
    upstreams: RemoteUpstreams, link: NoAgent, failure: type[TwinhullError], start: int
) -> None:
    link.failure = failure
    coming = await upstreams.blob(REPOSITORY, DIGEST)
    assert coming.size == len(LAYER.content)
    assert await read(coming.source, start, coming.size) == LAYER.content[start:]


async def test_reader_may_go_back(upstreams: RemoteUpstreams) -> None:
    source = (await upstreams.blob(REPOSITORY, DIGEST)).source
    assert await source.read(1000, 10) == LAYER.content[1000:1010]
    assert await source.read(5, 10) == LAYER.content[5:15]
    await source.close()


async def test_line_that_breaks_is_told_as_such(upstreams: RemoteUpstreams, upstream: Upstream) -> None:
    upstream.line.allow("back", 1_000_000)
    with pytest.raises(RegistryUnreachable):
        await read((await upstreams.blob(REPOSITORY, DIGEST)).source, 0, len(LAYER.content))


async def test_all_of_what_is_wrong_is_handed_to_nobody(upstreams: RemoteUpstreams, upstream: Upstream) -> None:
    spoilt = IMAGE.blobs[2]
    upstream.spoil(spoilt.digest)
    with pytest.raises(RegistryUnreachable, match="other bytes"):
        await read((await upstreams.blob(REPOSITORY, Digest(spoilt.digest))).source, 0, len(spoilt.content))


async def test_blob_that_upstream_does_not_have_is_unknown(upstreams: RemoteUpstreams, upstream: Upstream) -> None:
    with pytest.raises(BlobUnknown, match="has no"):
        await upstreams.blob(REPOSITORY, Digest(f"sha256:{'0' * 64}"))
    upstream.line.cut()
    with pytest.raises(BlobUnknown, match="does not answer"):
        await upstreams.blob(REPOSITORY, DIGEST)
    assert await upstreams.tags(REPOSITORY) == []
