"""Real clients pull another registry's images through the masters' entrance, and go on when that registry is gone."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.compat import held, wire
from tests.compat.contract import Driver, IndexDriver, Target
from tests.compat.docker import Docker
from tests.compat.test_crane import Crane
from tests.compat.test_podman import Podman
from tests.compat.test_skopeo import Skopeo
from tests.support import images
from tests.support.clients import Home, require_client
from tests.support.plain_registry import PlainRegistry, plain_registry
from tests.support.proxied import make_proxy
from tests.support.pushes import push, put_manifest
from tests.support.real_node import eventually
from tests.support.registry_client import Answer
from tests.support.twins import Registry, Twins


@pytest.fixture
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainRegistry]:
    """A docker-registry that a test may stop."""
    with plain_registry(tmp_path_factory.mktemp("upstream")) as registry:
        yield registry


@pytest.fixture
def skopeo(home: Home) -> Skopeo:
    """Return skopeo."""
    return Skopeo(require_client("skopeo"), home)


@pytest.fixture
def crane(home: Home) -> Crane:
    """Return crane."""
    return Crane(require_client("crane"), home)


@pytest.fixture
def podman(home: Home) -> Podman:
    """Return podman."""
    return Podman(require_client("podman"), home)


def proxied(registry: Registry, upstream: PlainRegistry, repository: str) -> Target:
    """Make a project that stands for upstream, and return where a tag of upstream's repository is to be pulled."""

    def manage(method: str, path: str, body: object = None) -> Answer:
        answer = wire.ask(registry, method, f"/api/v2.0{path}", body=body)
        return Answer(asked=path, status=answer.status, headers=tuple(answer.headers.items()), body=answer.body)

    return Target(registry=registry, repository=f"{make_proxy(manage, upstream.url)}/{repository}", tag="v1")


def wait_kept(twins: Twins, target: Target) -> None:
    """Return once both masters have what was pulled themselves."""
    project, _, name = target.repository.partition("/")
    path = f"/api/v2.0/projects/{project}/repositories/{name.replace('/', '%252F')}/artifacts/{target.tag}"
    for node in (twins.a, twins.b):
        eventually(lambda node=node: wire.ask(node, "GET", path).status == 200, what=f"{target.repository} is kept")  # type: ignore[misc]


@pytest.mark.parametrize("client", ["docker", "skopeo", "crane", "podman"])
def test_image_is_pulled_through_and_again_when_upstream_is_gone(
    client: str, request: pytest.FixtureRequest, registry: Registry, twins: Twins, upstream: PlainRegistry
) -> None:
    driver: Driver = request.getfixturevalue(client)
    driver.login(registry)
    content = images.image(secrets.token_hex(6), docker=client == "docker", layer_bytes=300_000)
    push(upstream.repository("team/app"), content, "v1")
    target = proxied(registry, upstream, "team/app")
    unpacks = isinstance(driver, Docker | Podman)
    wanted = held.unpacked(content) if unpacks else held.expected(content).content
    pulled = driver.pull(target)
    assert (pulled.digest, pulled.content) == (content.digest, wanted)
    wait_kept(twins, target)
    upstream.stop()
    assert driver.pull(target) == pulled


@pytest.mark.parametrize("client", ["skopeo", "crane"])
def test_index_is_pulled_through_with_all_its_images(
    client: str, request: pytest.FixtureRequest, registry: Registry, twins: Twins, upstream: PlainRegistry
) -> None:
    driver: IndexDriver = request.getfixturevalue(client)
    driver.login(registry)
    content = images.index(secrets.token_hex(6))
    there = upstream.repository("team/index")
    for child in content.children:
        push(there, child, child.digest)
    put_manifest(there, content, "v1").expect(201)
    target = proxied(registry, upstream, "team/index")
    assert driver.pull_index(target) == held.expected(content)
    for child in content.children:
        wait_kept(twins, target.with_tag(child.digest))
    wait_kept(twins, target)
    upstream.stop()
    assert driver.pull_index(target) == held.expected(content)
