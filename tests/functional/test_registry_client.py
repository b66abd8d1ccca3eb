"""The client for foreign registries: against Debian's docker-registry, a node of our own, and a server that misbehaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from tests.support.images import Content, image
from tests.support.plain_registry import SECRET, USER, PlainRegistry, plain_registry
from tests.support.pushes import push
from tests.support.registry_client import RegistryClient as PlainClient
from tests.support.registry_client import Repository, basic
from tests.support.served import served
from tests.support.single import SingleNode, running_node
from twinhull.catalog.foreign import Endpoint
from twinhull.catalog.proxies import proxy_for
from twinhull.kit.digest import Digest, digest_of
from twinhull.kit.errors import RegistryBusy, RegistryLacks, RegistryRefused, RegistryUnreachable
from twinhull.mirror.registry_client import RegistryClient, registry_url
from twinhull.mirror.registry_line import ANSWER_BYTES_MAX

IMAGE: Final = image("client", layer_bytes=700_000)


@pytest.fixture(scope="module", params=["open", "private"])
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainRegistry]:
    """A docker-registry with one image in it."""
    with plain_registry(tmp_path_factory.mktemp("plain"), private=request.param == "private") as registry:
        push(registry.repository("team/app"), IMAGE, "v1")
        yield registry


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SingleNode]:
    """A Twinhull node with the same image in it, in a project that is open to nobody."""
    with running_node(tmp_path_factory.mktemp("node")) as running:
        client = PlainClient(addresses=[running.address], user=running.user, password=running.password)
        made = client.request(
            "POST",
            "/api/v2.0/projects",
            headers={"Content-Type": "application/json"},
            body=json.dumps({"project_name": "team", "metadata": {"public": "false"}}).encode(),
            authorization=basic(running.user, running.password),
        )
        assert made.status == 201, made
        push(Repository(client=client, name="team/app"), IMAGE, "v1")
        yield running


async def read_all(client: RegistryClient, content: Content) -> None:
    """Read an image as a client of registries does, and see that it is what was pushed."""
    found = await client.manifest("team/app", "v1")
    assert (found.content, found.media_type) == (content.manifest.content, content.manifest.media_type)
    head = await client.head("team/app", found.digest)
    assert (head.digest, head.size, head.media_type) == (found.digest, len(found.content), found.media_type)
    for blob in content.blobs:
        digest = Digest(blob.digest)
        assert await client.blob_size("team/app", digest) == len(blob.content)
        for start in (0, 1, len(blob.content) // 2):
            async with client.blob("team/app", digest, start) as stream:
                assert stream.size == len(blob.content)
                assert b"".join([piece async for piece in stream.pieces()]) == blob.content[start:]
    assert [page async for page in client.tags("team/app")] == [["v1"]]


class TestRealRegistries:
    async def test_reads_from_a_docker_registry(self, plain: PlainRegistry) -> None:
        endpoint = Endpoint(kind="docker-registry", url=plain.url, access_key=USER, access_secret=SECRET)
        async with RegistryClient(endpoint) as client:
            await client.check()
            await read_all(client, IMAGE)
            assert [page async for page in client.repositories()] == [["team/app"]]
            with pytest.raises(RegistryLacks):
                await client.manifest("team/app", "v2")
            with pytest.raises(RegistryLacks):
                await client.blob_size("team/app", digest_of(b"never pushed"))
            with pytest.raises(RegistryLacks):
                await anext(aiter(client.tags("nobody/knows")))

    async def test_reads_from_a_node_of_ours_by_tokens(self, node: SingleNode) -> None:
        endpoint = Endpoint(kind="harbor", url=f"http://{node.address}", access_key=node.user, access_secret=node.password)
        async with RegistryClient(endpoint) as client:
            await client.check()
            await read_all(client, IMAGE)
            assert [page async for page in client.repositories()] == [["team/app"]]

    @pytest.mark.parametrize("secret", ["", "wrong"])
    async def test_refusal_is_told_from_absence(self, node: SingleNode, secret: str) -> None:
        endpoint = Endpoint(
            kind="harbor", url=f"http://{node.address}", access_key="admin" if secret else "", access_secret=secret
        )
        async with RegistryClient(endpoint) as client:
            with pytest.raises(RegistryRefused) as refused:
                await client.manifest("team/app", "v1")
        assert secret == "" or secret not in str(refused.value)

    async def test_registry_that_is_gone_is_told_in_time(self, tmp_path: Path) -> None:
        with plain_registry(tmp_path) as registry:
            url = registry.url
        async with RegistryClient(Endpoint(kind="docker-registry", url=url)) as client:
            with pytest.raises(RegistryUnreachable, match=url):
                await client.head("team/app", "v1")


BLOB: Final = b"0123456789" * 1000
MANIFEST: Final = IMAGE.manifest


class Odd:
    """A registry that does what registries do now and then, and notes what it is sent."""

    def __init__(self) -> None:
        self.url = ""
        self.elsewhere = ""
        self.authorizations: list[str | None] = []

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/v2/{path:.*}", self._answer)
        application.router.add_get("/stored/{name}", self._stored)
        return application

    async def _stored(self, request: web.Request) -> web.Response:
        self.authorizations.append(request.headers.get("Authorization"))
        return web.Response(body=BLOB)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if request.headers.get("Authorization") is None and "open" not in path:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        kind = path.split("/")[-4]
        if kind == "slow":
            await asyncio.Event().wait()
        return self._page(request) if kind == "pages" else self._fixed(kind, request.method, path)

    def _fixed(self, kind: str, method: str, path: str) -> web.Response:
        away = {"Location": f"{self.elsewhere}/stored/x"}
        following = {"Link": f'<{self.elsewhere}/v2/x>; rel="next"'}
        answers: dict[str, dict[str, Any]] = {
            "busy": {"status": 429, "headers": {"Retry-After": "17"}},
            "broken": {"status": 502},
            "wrong": {"body": b"{}", "headers": {"Docker-Content-Digest": MANIFEST.digest}},
            "moved": {"status": 307, "headers": away},
            "round": {"status": 302, "headers": {"Location": path}},
            "plain": {"body": BLOB},
            "signed": {"body": BLOB} if method == "GET" else {"status": 403},
            "silent": {"body": MANIFEST.content, "content_type": MANIFEST.media_type},
            "long": {"body": b"[" + b" " * ANSWER_BYTES_MAX},
            "away": {"body": b'{"tags":["a"]}', "headers": following},
        }
        return web.Response(**answers.get(kind, {"status": 404}))

    def _page(self, request: web.Request) -> web.Response:
        number = int(request.query.get("last", "0"))
        following = {"Link": f'<{request.path}?last={number + 1}&n=1>; rel="next"'} if number < 2 else {}
        return web.json_response({"name": "x", "tags": [f"v{number}"] if number else None}, headers=following)


@pytest.fixture
async def odd() -> AsyncIterator[Odd]:
    """One at each of two addresses, which are one to another what other hosts are."""
    registry = Odd()
    async with served(registry.application()) as registry.url, served(registry.application()) as registry.elsewhere:
        yield registry


@pytest.fixture
async def client(odd: Odd) -> AsyncIterator[RegistryClient]:
    """A client of it with a name and a secret."""
    endpoint = Endpoint(kind="docker-registry", url=odd.url, access_key=USER, access_secret=SECRET)
    async with RegistryClient(endpoint, timeout_s=1.0) as made:
        yield made


class TestOddRegistries:
    @pytest.mark.parametrize(
        ("repository", "failure", "said"),
        [
            ("busy/app", RegistryBusy, "takes no more requests"),
            ("slow/app", RegistryUnreachable, "not in time"),
            ("broken/app", RegistryUnreachable, "answered 502"),
            ("wrong/app", RegistryUnreachable, "other bytes"),
            ("round/app", RegistryUnreachable, "sends on and on"),
            ("none/app", RegistryLacks, "has no /v2/none/app/manifests/v1"),
        ],
    )
    async def test_failures_are_told_apart(
        self, client: RegistryClient, repository: str, failure: type[Exception], said: str
    ) -> None:
        with pytest.raises(failure, match=said) as raised:
            await client.manifest(repository, "v1")
        assert SECRET not in str(raised.value)

    async def test_busy_registry_says_when_to_come_again(self, client: RegistryClient) -> None:
        with pytest.raises(RegistryBusy) as busy:
            await client.head("busy/app", "v1")
        assert busy.value.retry_after_s == 17

    async def test_credentials_are_not_taken_along_to_another_host(self, client: RegistryClient, odd: Odd) -> None:
        async with client.blob("moved/app", digest_of(BLOB)) as stream:
            assert b"".join([piece async for piece in stream.pieces()]) == BLOB
        assert odd.authorizations == [None]

    async def test_rest_of_a_blob_comes_also_from_a_registry_without_ranges(self, client: RegistryClient) -> None:
        async with client.blob("plain/app", digest_of(BLOB), 5000) as stream:
            assert stream.size == len(BLOB)
            assert b"".join([piece async for piece in stream.pieces()]) == BLOB[5000:]

    async def test_size_is_found_out_by_a_get_where_a_head_is_refused(self, client: RegistryClient) -> None:
        assert await client.blob_size("signed/app", digest_of(BLOB)) == len(BLOB)

    async def test_proxy_of_the_environment_is_used_but_for_this_machine_and_what_it_excepts(
        self, odd: Odd, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", odd.url)
        monkeypatch.setenv("no_proxy", "near.test")
        endpoint = Endpoint(kind="docker-registry", url="http://far.test", access_key=USER, access_secret=SECRET)
        async with RegistryClient(endpoint) as client:
            assert await client.blob_size("plain/app", digest_of(BLOB)) == len(BLOB)
        assert [proxy_for(f"http://{host}:5000/v2/") for host in ("near.test", "localhost", "127.0.0.2", "[::1]")] == [None] * 4
        assert proxy_for("https://far.test/v2/") is None

    async def test_head_is_answered_by_the_bytes_where_a_registry_says_no_digest(self, client: RegistryClient) -> None:
        assert (await client.head("silent/app", "v1")).digest == MANIFEST.digest

    async def test_all_pages_are_read_and_no_other_registry_is_asked_for_one(self, client: RegistryClient) -> None:
        assert [page async for page in client.tags("pages/app")] == [[], ["v1"], ["v2"]]
        with pytest.raises(RegistryUnreachable, match="another place"):
            async for _ in client.tags("away/app"):
                pass

    async def test_answer_without_end_is_not_taken(self, client: RegistryClient) -> None:
        with pytest.raises(RegistryUnreachable, match="sends more than"):
            await anext(aiter(client.tags("long/app")))

    async def test_wrong_secret_is_refused_after_one_more_try(self, odd: Odd) -> None:
        endpoint = Endpoint(kind="docker-registry", url=odd.url)
        async with RegistryClient(endpoint) as nobody:
            with pytest.raises(RegistryRefused):
                await nobody.manifest("silent/app", "v1")
            # Who is asked for nothing sends nothing.
            await nobody.manifest("open/silent/app", "v1")


class Tokens:
    """A registry whose tokens last for one request, and which counts what it is asked for them."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, str | None]] = []
        self.valid = ""

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/token", self._token)
        application.router.add_get("/v2/{path:.*}", self._answer)
        return application

    async def _token(self, request: web.Request) -> web.Response:
        self.asked.append((request.query["scope"], request.headers.get("Authorization")))
        self.valid = f"t{len(self.asked)}"
        return web.json_response({"access_token": self.valid})

    async def _answer(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.valid}":
            challenge = f'Bearer realm="{self.url}/token",service="other",scope="repository:a/b:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return web.Response(body=MANIFEST.content, content_type=MANIFEST.media_type)


class TestTokens:
    async def test_token_is_kept_and_asked_for_anew_when_it_is_not_taken_any_more(self) -> None:
        registry: Any = Tokens()
        async with served(registry.application()) as url:
            registry.url = url
            async with RegistryClient(Endpoint(kind="harbor", url=url)) as client:
                await client.manifest("a/b", "v1")
                await client.manifest("a/b", "v1")
                assert registry.asked == [("repository:a/b:pull", None)]
                registry.valid = "another"
                await client.manifest("a/b", "v1")
                assert len(registry.asked) == 2


class TestDockerHub:
    @pytest.mark.parametrize("url", ["https://hub.docker.com", "https://docker.io", "https://hub.docker.com/"])
    def test_its_registry_is_elsewhere_and_short_names_are_in_library(self, url: str) -> None:
        endpoint = Endpoint(kind="docker-hub", url=url)
        assert registry_url(endpoint) == "https://registry-1.docker.io"
        client = RegistryClient(endpoint)
        assert client.path("alpine", "tags/list") == "/v2/library/alpine/tags/list"
        assert client.path("team/alpine", "tags/list") == "/v2/team/alpine/tags/list"
        assert client.scope("alpine") == "repository:library/alpine:pull"

    def test_other_registries_are_where_they_say(self) -> None:
        endpoint = Endpoint(kind="docker-registry", url="http://r.test:5000/below/")
        assert registry_url(endpoint) == "http://r.test:5000/below"
        assert RegistryClient(endpoint).path("alpine", "tags/list") == "/v2/alpine/tags/list"
