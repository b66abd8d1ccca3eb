"""What a node's agent asks of upstream, and how often: over time that passes when a test says so."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest

from tests.support.accounts import AccountsNode, site
from tests.support.images import image
from tests.support.proxied import Upstream
from tests.support.pushes import push, put_manifest
from tests.support.streams import until
from twinhull.catalog.documents import create_document
from twinhull.kit.clock import ManualClock
from twinhull.kit.digest import Digest
from twinhull.kit.errors import ReadOnlyMode, RegistryUnreachable
from twinhull.mirror.proxy_cache import ProxyCache
from twinhull.mirror.upstreams import Upstreams
from twinhull.records.kinds import REGISTRY
from twinhull.replication.link import AskUpstream, FetchUpstream, Named
from twinhull.replication.transfers import Transfers

__all__ = ["site"]

FIRST: Final = image("first")
SECOND: Final = image("second")
PATH: Final = "/team/app/manifests/v1"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """A docker-registry behind a line."""
    upstream = Upstream(tmp_path_factory.mktemp("upstream"))
    yield upstream
    upstream.close()


@pytest.fixture
def upstream(shared: Upstream) -> Iterator[Upstream]:
    """The same, with one image in it, and mended after the test."""
    push(shared.registry.repository("team/app"), FIRST, "v1")
    yield shared
    shared.mend()


class Asking:
    """An agent's proxy cache, as a worker asks it."""

    def __init__(self, cache: ProxyCache, clock: ManualClock, upstream: Upstream) -> None:
        self._cache = cache
        self._upstream = upstream
        self.clock = clock
        self._seen = {"HEAD": 0, "GET": 0}
        self.questions()

    async def by_tag(self, *, have: str = "", look_only: bool = True) -> str:
        """Return what the tag names."""
        asked = AskUpstream(repository="proxy/team/app", reference="v1", have=have, look_only=look_only)
        named = await self._cache.on_call(asked)
        assert isinstance(named, Named)
        return named.digest

    async def blob(self, digest: str) -> None:
        """Have a blob brought."""
        await self._cache.on_call(FetchUpstream(repository="proxy/team/app", digest=digest))

    def questions(self) -> tuple[int, int]:
        """Return how many HEADs and GETs by the tag came to upstream since this was last asked."""
        now = {method: self._upstream.registry.asked(method, PATH) for method in self._seen}
        new = now["HEAD"] - self._seen["HEAD"], now["GET"] - self._seen["GET"]
        self._seen = now
        return new


@pytest.fixture
async def asking(site: AccountsNode, upstream: Upstream) -> AsyncIterator[Asking]:
    """A node with a project that stands for the registry."""
    with site.store.write() as transaction:
        fields = {"type": "docker-registry", "url": upstream.url, "insecure": True}
        registry = create_document(transaction, REGISTRY, fields, name="hub")
    await site.admin.create("/projects", {"project_name": "proxy", "registry_id": registry})
    transfers = Transfers(
        site.blobs,
        list,
        executor=site.executor,
        movers=site.executor,
        is_named=lambda _: True,
        jitter=random.Random(1),
    )
    clock = ManualClock()
    cache = ProxyCache(
        store=site.store,
        blobs=site.blobs,
        transfers=transfers,
        upstreams=Upstreams(site.store, site.executor, site.sealer),
        executor=site.executor,
        clock=clock,
    )
    yield Asking(cache, clock, upstream)
    await cache.close()
    await transfers.close()


async def test_answer_is_believed_for_two_seconds(asking: Asking, upstream: Upstream) -> None:
    assert await asking.by_tag(have="sha256:older") == FIRST.digest
    push(upstream.registry.repository("team/app"), SECOND, "v1")
    asking.clock.advance(1900)
    assert await asking.by_tag(have=FIRST.digest) == FIRST.digest
    assert asking.questions() == (1, 0)
    asking.clock.advance(200)
    assert await asking.by_tag(have=FIRST.digest) == SECOND.digest
    assert asking.questions() == (1, 0)


async def test_who_only_looks_at_a_tag_again_and_again_pulls_it_once(asking: Asking) -> None:
    for _ in range(4):
        assert await asking.by_tag() == FIRST.digest
        asking.clock.advance(60_000)
    assert asking.questions() == (3, 1)


async def test_registry_that_failed_is_spared_by_those_who_have_something(asking: Asking, upstream: Upstream) -> None:
    upstream.line.cut()
    with pytest.raises(RegistryUnreachable):
        await asking.by_tag(have=FIRST.digest)
    upstream.mend()
    asking.clock.advance(9000)
    with pytest.raises(RegistryUnreachable):
        await asking.by_tag(have=FIRST.digest)
    assert asking.questions() == (0, 0)
    asking.clock.advance(2000)
    assert await asking.by_tag(have=FIRST.digest) == FIRST.digest
    assert asking.questions() == (1, 0)


async def test_who_has_nothing_asks_also_then_and_what_is_answered_lets_others_ask(asking: Asking, upstream: Upstream) -> None:
    upstream.line.cut()
    with pytest.raises(RegistryUnreachable):
        await asking.by_tag(have=FIRST.digest)
    upstream.mend()
    assert await asking.by_tag() == FIRST.digest
    asking.clock.advance(3000)
    put_manifest(upstream.registry.repository("team/app"), FIRST, "v1").expect(201)
    assert await asking.by_tag(have=FIRST.digest) == FIRST.digest
    assert asking.questions() == (1, 1)


async def test_nothing_is_kept_while_nothing_may_be_written(asking: Asking, site: AccountsNode) -> None:
    layer = FIRST.blobs[1].digest
    await site.admin.ok(200, "PUT", "/configurations", {"read_only": True})
    with pytest.raises(ReadOnlyMode):
        await asking.blob(layer)
    assert site.blobs.stat(Digest(layer)) is None
    await site.admin.ok(200, "PUT", "/configurations", {"read_only": False})
    await asking.blob(layer)
    await until(lambda: site.blobs.stat(Digest(layer)) is not None)
