"""One node's data plane on real metadata and real files, put together in the test's own process, and a client for it.

The client speaks ASGI: no server, no socket, so a test sees exactly what the application does.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from twinhull.auth.acting import ActingThreads
from twinhull.auth.ended import EndedSessions
from twinhull.auth.passwords import GuessBrake, PasswordChecker, VerifiedPasswords
from twinhull.auth.sealing import Sealer
from twinhull.auth.service import Guard
from twinhull.auth.tokens import Access as TokenAccess
from twinhull.auth.tokens import SigningKey, TokenIssuer, TokenVerifier
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.blobs.ingest import Intake
from twinhull.blobs.store import BlobStore
from twinhull.catalog.accounts import create_admin
from twinhull.catalog.artifacts import Artifacts
from twinhull.catalog.contents import Contents
from twinhull.catalog.deleting import Deleting
from twinhull.catalog.events import Entrance
from twinhull.catalog.peers import Durability, LocalDurability, NoPeers, NoUploadWatch, Peers, UploadWatch
from twinhull.catalog.pulls import Pulls
from twinhull.catalog.pushing import Pushing
from twinhull.catalog.uploads import Uploads
from twinhull.kit.clock import SystemClock
from twinhull.metadata.freshness import Freshness
from twinhull.metadata.schema import metadata
from twinhull.metadata.sqlite import SqliteDatabase
from twinhull.metadata.store import Store
from twinhull.records.kinds import MEMBER, NODE, PROJECT, USER, member_key
from twinhull.registry.access import Access
from twinhull.registry.blobs import BlobHandlers
from twinhull.registry.errors import SERVICE, ErrorAnswers
from twinhull.registry.manifests import ManifestHandlers
from twinhull.registry.referrers import ReferrerHandlers
from twinhull.registry.routes import Registry
from twinhull.registry.tags import TagHandlers
from twinhull.registry.uploads import Relay, UploadHandlers, relay_to_nobody
from twinhull.web.admission import Admission
from twinhull.web.app import Application, Mounted
from twinhull.web.asgi import PATHSEND, Message, Scope
from twinhull.web.browsers import AUDIENCE, Sessions
from twinhull.web.identity import Identity
from twinhull.web.middleware import Forwarding, RequestIds

HOST: Final = "registry.example:8443"


def _new_database(root: Path) -> SqliteDatabase:
    database = SqliteDatabase(root / "metadata.db", run_dir=root / "run")
    with database.write() as connection:
        metadata.create_all(connection)
    return database


class Node:
    """One node's data plane."""

    def __init__(
        self,
        root: Path,
        *,
        name: str = "node1",
        slot: int = 0,
        peers: Peers | None = None,
        durability: Durability | None = None,
        relay: Relay = relay_to_nobody,
        watch: UploadWatch | None = None,
        blobs: BlobStore | None = None,
    ) -> None:
        """Put it together in a directory; what other nodes would do is given."""
        clock = SystemClock()
        database = _new_database(root)
        self.store = Store(database, node=name, slot=slot, clock=clock)
        self.store.refresh_position()
        self.executor = ActingThreads(8)
        self.blobs = blobs or FilesystemBlobs(root)
        self.freshness = Freshness(self.store, self.executor)
        key = SigningKey(Ed25519PrivateKey.generate())
        self.issuer = TokenIssuer(key=key, clock=clock)
        self.sealer = Sealer(lambda: [b"k" * 32])
        passwords = PasswordChecker(
            verified=VerifiedPasswords(clock=clock), brake=GuessBrake(clock=clock), executor=self.executor
        )
        self.guard = Guard(store=self.store, executor=self.executor, log=self.freshness, clock=clock, passwords=passwords)
        forwarding = Forwarding(["127.0.0.0/8"])
        self.sessions = self._sessions(forwarding)
        self.admission = Admission(self.guard.setting, self.sessions)
        verifier = TokenVerifier(keys=self.guard.key_of, audience=SERVICE, clock=clock)
        access = Access(Identity(guard=self.guard, verifier=verifier, forwarding=forwarding, sessions=self.sessions))
        peers = peers or NoPeers()
        durability = durability or LocalDurability()
        shared: dict[str, Any] = {"store": self.store, "executor": self.executor, "peers": peers}
        self.artifacts = Artifacts(freshness=self.freshness, **shared)
        self.contents = Contents(blobs=self.blobs, freshness=self.freshness, **shared)
        self.pushing = Pushing(blobs=self.blobs, **shared)
        self.pulls = Pulls(store=self.store, executor=self.executor, clock=clock, entrance=Entrance("https://registry.test"))
        uploads = self._uploads(name, watch or NoUploadWatch())
        manifests = ManifestHandlers(
            artifacts=self.artifacts,
            pushing=self.pushing,
            deleting=Deleting(**shared),
            durability=durability,
            pulls=self.pulls,
        )
        registry = Registry(
            access=access,
            manifests=manifests,
            blobs=BlobHandlers(contents=self.contents, durability=durability),
            uploads=UploadHandlers(uploads=uploads, contents=self.contents, access=access, durability=durability, relay=relay),
            tags=TagHandlers(artifacts=self.artifacts, access=access),
            referrers=ReferrerHandlers(artifacts=self.artifacts),
        )
        self.app = self._application(registry, forwarding, name)
        with self.store.write() as transaction:
            transaction.create(NODE, name, {"name": name, "slot": slot, "token_keys": [key.public()]})

    def _uploads(self, name: str, watch: UploadWatch) -> Uploads:
        return Uploads(
            blobs=self.blobs,
            contents=self.contents,
            intake=Intake(self.executor),
            executor=self.executor,
            node=name,
            new_id=lambda: uuid.uuid4().hex,
            watch=watch,
        )

    def _application(self, registry: Registry, forwarding: Forwarding, name: str) -> Application:
        mounted = Mounted(
            name="registry",
            prefixes=("/v2/", "/v2"),
            face=registry,
            render_error=ErrorAnswers(origin_of=forwarding.origin_of).render,
            admit=self.admission,
        )
        return Application(faces=[mounted], fallback=mounted, request_ids=RequestIds(name), clock=self.store.clock)

    def _sessions(self, forwarding: Forwarding) -> Sessions:
        return Sessions(
            guard=self.guard,
            ended=EndedSessions(store=self.store, executor=self.executor, log=self.freshness),
            issuer=self.issuer,
            verifier=TokenVerifier(keys=self.guard.key_of, audience=AUDIENCE, clock=self.store.clock),
            sealer=self.sealer,
            origin_of=forwarding.origin_of,
        )

    def add_project(self, name: str, *, public: bool = False) -> None:
        """Make a project."""
        with self.store.write() as transaction:
            fields = {"metadata.public": "true" if public else "false", "created_ms": 1}
            transaction.create(PROJECT, name, fields, number=transaction.next_id(PROJECT))

    def add_admin(self, password_hash: str) -> None:
        """Make the built-in administrator."""
        with self.store.write() as transaction:
            create_admin(transaction, password_hash)

    def add_user(self, name: str, **roles: int) -> None:
        """Make a user with Harbor's role ids in projects."""
        with self.store.write() as transaction:
            fields = {"password_hash": f"stored-{name}", "created_ms": 1}
            transaction.create(USER, name, fields, number=transaction.next_id(USER))
            for project, role in roles.items():
                number = transaction.next_id(MEMBER)
                transaction.create(MEMBER, member_key(project, "u", name), {"role": role, "created_ms": 1}, number=number)

    async def token(self, user: str, *scopes: str) -> str:
        """Return a bearer token as /service/token would issue it for "repository:NAME:ACTIONS" or "registry:catalog:*"."""
        subject = await self.guard.subject(user)
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append(TokenAccess(type=kind, name=name, actions=actions.split(",")))
        issued = self.issuer.issue(
            subject=subject.name if subject else "",
            credential=subject.credential if subject else "",
            audience=SERVICE,
            access=access,
            ttl_s=1800,
        )
        return issued.token

    async def client(self, user: str, *scopes: str) -> Client:
        """Return a client that comes with such a token."""
        return Client(self, authorization=f"Bearer {await self.token(user, *scopes)}")

    def close(self) -> None:
        """Let go of threads and files."""
        self.executor.shutdown()
        self.store.close()


@dataclass(slots=True, kw_only=True)
class Reply:
    """What the application answered."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    sent_file: str = ""

    def __getitem__(self, name: str) -> str:
        """Return a header, or fail the test."""
        found = self.get(name)
        assert found is not None, f"no header {name}: {self}"
        return found

    def get(self, name: str) -> str | None:
        """Return the only header of that name, or None."""
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) <= 1, self
        return values[0] if values else None

    def json(self) -> dict[str, Any]:
        """Return the body, a JSON object."""
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def code(self) -> str:
        """Return the first error's code."""
        return str(self.json()["errors"][0]["code"])


class Client:
    """Sends requests into a node's application."""

    def __init__(self, node: Node, *, authorization: str = "") -> None:
        """Come with these credentials."""
        self._node = node
        self._authorization = authorization

    async def __call__(
        self,
        method: str,
        url: str,
        body: bytes | Sequence[bytes] = b"",
        *,
        leaves: bool = False,
        sends_files: bool = True,
        **headers: str,
    ) -> Reply:
        """Return the answer; with `leaves` the client goes away after the last piece, before the body's announced end."""
        pieces = [body] if isinstance(body, bytes) else list(body)
        given = {"host": HOST, **({"authorization": self._authorization} if self._authorization else {})}
        if isinstance(body, bytes) and body:
            given["content-length"] = str(len(body))
        given.update({name.replace("_", "-"): value for name, value in headers.items()})
        parts = urlsplit(url)
        scope: Scope = {
            "type": "http",
            "method": method,
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()],
            "scheme": "http",
            "client": ("192.0.2.1", 1234),
            "server": ("127.0.0.1", 80),
            "extensions": {PATHSEND: {}} if sends_files else {},
        }
        reply = Reply()

        async def receive() -> Message:
            await asyncio.sleep(0)
            if pieces:
                piece = pieces.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(pieces) or leaves}
            if not leaves:
                # A client that waits for its answer has nothing more to say.
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                assert reply.status == 0
                reply.status = message["status"]
                reply.headers = [(name.decode(), value.decode("latin-1")) for name, value in message["headers"]]
            elif message["type"] == PATHSEND:
                reply.sent_file = message["path"]
                reply.body += await asyncio.to_thread(Path(message["path"]).read_bytes)
            else:
                reply.body += message.get("body", b"")

        await self._node.app(scope, receive, send)
        return reply
