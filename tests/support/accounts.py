"""A node with Harbor's accounts beside its data plane, put together in the test's own process, and clients of its users."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.composed import Client, Node, Reply
from twinhull.auth.passwords import GuessBrake, PasswordChecker, VerifiedPasswords, hash_password
from twinhull.auth.tokens import TokenVerifier
from twinhull.catalog.events import Entrance
from twinhull.catalog.peers import LocalDurability, NoPeers
from twinhull.catalog.projects import create_library
from twinhull.harbor.tokens import SERVICE
from twinhull.kit.clock import SystemClock
from twinhull.kit.digest import Digest
from twinhull.node.management import Parts, management_faces
from twinhull.node.stored import Stored
from twinhull.web.app import Application
from twinhull.web.asgi import Receive, Scope, Send
from twinhull.web.identity import Identity
from twinhull.web.middleware import Forwarding, RequestIds

ADMIN_PASSWORD: Final = "Harbor12345"
PASSWORD: Final = "Passw0rd1"
WEAK: Final = "must longer than 8 chars with at least 1 uppercase letter, 1 lowercase letter and 1 number"
_ADMIN_HASH: Final = hash_password(ADMIN_PASSWORD)


class NotingDurability(LocalDurability):
    """A node on its own, which notes the changes of which other nodes would be waited for."""

    def __init__(self) -> None:
        """Begin with none."""
        self.awaited: list[int] = []

    async def reached(self, seq: int, *, repository: str = "", digest: Digest | None = None, wanted: str = "") -> str:
        """Note the change."""
        self.awaited.append(seq)
        return await super().reached(seq, repository=repository, digest=digest, wanted=wanted)


class AccountsNode(Node):
    """One node: data plane, token service and management API, with `admin` and `library` in it."""

    def __init__(self, root: Path) -> None:
        """Put it together in a directory."""
        super().__init__(root)
        self.data_plane = self.app
        self.durability = NotingDurability()
        clock = SystemClock()
        forwarding = Forwarding(["127.0.0.0/8"])
        passwords = PasswordChecker(
            verified=VerifiedPasswords(clock=clock),
            brake=GuessBrake(clock=clock),
            executor=self.executor,
        )
        verifier = TokenVerifier(keys=self.guard.key_of, audience=SERVICE, clock=clock)
        self.identity = Identity(guard=self.guard, verifier=verifier, forwarding=forwarding, sessions=self.sessions)
        parts = Parts(
            store=self.store,
            executor=self.executor,
            durability=self.durability,
            stored=Stored(
                blobs=self.blobs,
                peers=NoPeers(),
                artifacts=self.artifacts,
                contents=self.contents,
                pushing=self.pushing,
                pulls=self.pulls,
            ),
            guard=self.guard,
            identity=self.identity,
            sessions=self.sessions,
            admission=self.admission,
            passwords=passwords,
            issuer=self.issuer,
            forwarding=forwarding,
            sealer=self.sealer,
            is_healthy=self.is_healthy,
            data_dir=root,
            grace_s=7200,
            entrance=Entrance("https://registry.test"),
        )
        faces = management_faces(parts)
        self.management = Application(faces=faces, fallback=faces[-1], request_ids=RequestIds("t"), clock=clock)
        self.app = self.dispatch  # type: ignore[assignment]
        with self.store.write() as transaction:
            create_library(transaction)
        self.add_admin(_ADMIN_HASH)

    async def is_healthy(self) -> bool:
        """Say so."""
        return True

    async def dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a request to the application that has its path."""
        face = self.data_plane if scope["path"].startswith("/v2") else self.management
        await face(scope, receive, send)

    def user(self, name: str, password: str) -> Api:
        """Return a client that comes with these credentials."""
        return Api(self, basic(name, password))

    @property
    def admin(self) -> Api:
        """A client of the built-in administrator."""
        return self.user("admin", ADMIN_PASSWORD)

    @property
    def anonymous(self) -> Api:
        """A client without credentials."""
        return Api(self, "")


def basic(name: str, password: str) -> str:
    """Return the Authorization header of these credentials."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


class Api:
    """Sends management calls, and what docker would send."""

    def __init__(self, node: AccountsNode, authorization: str) -> None:
        """Come with this Authorization header; none if it is empty."""
        self._client = Client(node, authorization=authorization)

    async def __call__(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        """Return the answer to a call below /api/v2.0, or to a whole path that begins otherwise."""
        url = path if path.startswith(("/v2", "/service", "/api", "/chartrepo", "/c/")) else f"/api/v2.0{path}"
        sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        given = {"content_type": "application/json", **headers}
        return await self._client(method, url, sent, leaves=False, sends_files=True, **given)

    async def ok(self, status: int, method: str, path: str, body: object = None, **headers: str) -> Any:  # noqa: ANN401 - whatever JSON is
        """Return the answer's JSON after checking the status."""
        reply = await self(method, path, body, **headers)
        assert reply.status == status, f"{method} {path}: {reply}"
        return reply.json() if reply.body else None

    async def create(self, path: str, body: object) -> int:
        """Make something and return the id that its Location says."""
        reply = await self("POST", path, body)
        assert reply.status == 201, f"POST {path}: {reply}"
        return int(reply["location"].rpartition("/")[2])

    async def token(self, *scopes: str) -> str:
        """Return a token for these scopes."""
        query = "&".join([f"service={SERVICE}", *(f"scope={scope}" for scope in scopes)])
        return str((await self.ok(200, "GET", f"/service/token?{query}"))["token"])

    async def starts_upload(self, repository: str) -> int:
        """Return the status of beginning a push."""
        return (await self("POST", f"/v2/{repository}/blobs/uploads/")).status


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[AccountsNode]:
    """A node with accounts; closed after the test."""
    made = AccountsNode(tmp_path)
    yield made
    made.close()


# -- what tests make, and how they look at it ------------------------------------------------------------------------


def user_body(name: str, password: str = PASSWORD, **changed: object) -> dict[str, object]:
    return {"username": name, "email": f"{name}@x.io", "realname": name, "password": password, "comment": "", **changed}


async def make_user(node: AccountsNode, name: str, password: str = PASSWORD) -> int:
    return await node.admin.create("/users", user_body(name, password))


async def make_project(api: Api, name: str, *, public: bool = False) -> int:
    return await api.create("/projects", {"project_name": name, "metadata": {"public": str(public).lower()}})


async def add_member(node: AccountsNode, project_id: int, name: str, role: int) -> int:
    body = {"role_id": role, "member_user": {"username": name}}
    return await node.admin.create(f"/projects/{project_id}/members", body)


def robot_body(name: str, project: str, *actions: str, level: str = "project", **changed: object) -> dict[str, Any]:
    access = [{"resource": "repository", "action": action} for action in actions or ("pull", "push")]
    permissions = [{"kind": "project", "namespace": project, "access": access}]
    return {"name": name, "level": level, "duration": -1, "description": "", "permissions": permissions, **changed}


def rows(reply: Reply) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(reply.body)
    return listed


async def names(api: Api, path: str) -> list[str]:
    return [entry["name"] for entry in await api.ok(200, "GET", path)]


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


async def push_image(api: Api, repository: str) -> None:
    config = b"{}"
    digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    started = await api(
        "POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", config, content_type="application/octet-stream"
    )
    assert started.status == 201, started
    media_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2},
        "layers": [],
    }
    put = await api("PUT", f"/v2/{repository}/manifests/v1", manifest, content_type=media_type)
    assert put.status == 201, put
