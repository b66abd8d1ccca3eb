"""Projects that stand for another registry's content, and that registry behind a line that a test can cut and slow down."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tests.support.images import Content, image
from tests.support.line import Line
from tests.support.plain_registry import SECRET, USER, PlainRegistry
from tests.support.real_node import RealNode, eventually
from tests.support.registry_client import Answer


class Upstream:
    """A registry of somebody else, and the line that nodes reach it by."""

    def __init__(self, directory: Path, *, private: bool = False) -> None:
        """Start it."""
        self.registry = PlainRegistry(directory, private=private)
        self.registry.start()
        self.line = Line()
        self.line.target = self.registry.address
        self._directory = directory
        self._private = private

    def mend(self) -> None:
        """Let the line lead to the registry again, and pass everything."""
        self.line.target = self.registry.address
        self.line.mend()

    def spoil(self, digest: str) -> None:
        """Change a blob behind the registry's back, so that it sends other bytes than the digest says."""
        name = digest.partition(":")[2]
        path = self._directory / "data/docker/registry/v2/blobs/sha256" / name[:2] / name / "data"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    @property
    def url(self) -> str:
        """Where nodes reach it."""
        return f"http://{self.line.address}"

    def close(self) -> None:
        """End it."""
        self.line.close()
        self.registry.stop()

    def proxy(self, node: RealNode, **metadata: str) -> str:
        """Make a project on the node that stands for it, open to anybody, and return its name."""
        return make_proxy(node.manage, self.url, private=self._private, **metadata)


class Manage(Protocol):
    """Asks a node's management API as its administrator."""

    def __call__(self, method: str, path: str, body: object = None) -> Answer:
        """Return the answer."""
        ...


def make_proxy(manage: Manage, url: str, *, private: bool = False, kind: str = "docker-registry", **metadata: str) -> str:
    """Make an endpoint and a public project that stands for it, and return the project's name."""
    name = f"px{secrets.token_hex(5)}"
    credential = {"type": "basic", "access_key": USER, "access_secret": SECRET} if private else {}
    body = {"name": name, "type": kind, "url": url, "insecure": True, "credential": credential}
    made = manage("POST", "/registries", body).expect(201)
    number = int((made.header("Location") or "").rpartition("/")[2])
    described = {"project_name": name, "registry_id": number, "metadata": {"public": "true", **metadata}}
    manage("POST", "/projects", described).expect(201)
    return name


@contextlib.contextmanager
def running_upstream(directory: Path, *, private: bool = False) -> Iterator[Upstream]:
    """Run one for as long as the block lasts."""
    upstream = Upstream(directory, private=private)
    try:
        yield upstream
    finally:
        upstream.close()


def new_image(size: int = 8_192) -> Content:
    """Return an image that nobody has pushed before, with one layer of about that size."""
    return image(secrets.token_hex(6), layers=1, layer_bytes=size)


def wait_kept(node: RealNode, repository: str, reference: str, digest: str) -> None:
    """Return once the node has an artifact itself, by a tag or its digest."""
    project, _, name = repository.partition("/")
    path = f"/projects/{project}/repositories/{name.replace('/', '%252F')}/artifacts/{reference}"

    def is_kept() -> bool:
        answer = node.manage("GET", path)
        document = answer.json() if answer.status == 200 else {}
        return isinstance(document, dict) and document.get("digest") == digest

    eventually(is_kept, what=f"{repository}:{reference} is kept on {node.name}")
