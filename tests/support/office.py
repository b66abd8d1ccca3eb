"""Sends what clients and administrators ask of a cluster, pushes, deletes, revocations and looks, and records each of them."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tests.support.images import Image, image
from tests.support.promises import FULL_STRENGTH, Kind, Operation, Outcome
from tests.support.registry_client import Answer, RegistryClient, basic
from tests.support.single import ADMIN_PASSWORD
from twinhull.kit.clock import SystemClock

PASSWORD: Final = "Passw0rd-of-theirs"
# Longer than any node lets a client wait for peers that do not answer.
PATIENCE_S: Final = 12.0
_ADMIN: Final = basic("admin", ADMIN_PASSWORD)
_DEVELOPER: Final = 2
_GUEST: Final = 3
_MAINTAINER: Final = 4
_JSON: Final = {"Content-Type": "application/json"}
_LAYER_BYTES: Final = 3_000


class Addressed(Protocol):
    """A node that clients can reach."""

    name: str
    address: str


@dataclass(slots=True, kw_only=True)
class Subject:
    """A user who is a member, or a robot: what it takes to change it, and to come in its name."""

    name: str
    login: str
    password: str
    path: str
    member_path: str = ""
    strength: int = FULL_STRENGTH


class Office:
    """Sends requests to any node, and records what came of each. May be used by many threads."""

    def __init__(self, nodes: Sequence[Addressed], seed: str) -> None:
        """Take the nodes; what is pushed follows from the seed."""
        self.nodes = nodes
        self.operations: list[Operation] = []
        self.subjects: list[Subject] = []
        self.images: dict[str, Image] = {}
        self.project = f"faults-{secrets.token_hex(4)}"
        self.repository = f"{self.project}/app"
        self._seed = seed
        self._project_path = ""
        self._clock = SystemClock()
        self._numbers = itertools.count(1)

    def open(self, node: Addressed) -> None:
        """Make the private project that everything is in."""
        answer = self.ask(node, "POST", "/api/v2.0/projects", {"project_name": self.project})
        assert answer is not None, f"{node.name} does not answer"
        self._project_path = answer.expect(201).header("Location") or ""

    # -- images --------------------------------------------------------------------------------------------------------

    def push(self, node: Addressed, tag: str, content: Image | None = None) -> Image | None:
        """Push a new image, or one that there is already, under the tag; return it if that was acknowledged."""
        pushed = content or self.new_image()
        self.images[pushed.digest] = pushed

        def requests() -> Answer | None:
            for blob in pushed.blobs if content is None else ():
                path = f"/v2/{self.repository}/blobs/uploads/?digest={blob.digest}"
                answer = self.ask(node, "POST", path, blob.content)
                if answer is None or answer.status != 201:
                    return answer
            headers = {"Content-Type": pushed.manifest.media_type}
            path = f"/v2/{self.repository}/manifests/{tag}"
            return self.ask(node, "PUT", path, pushed.manifest.content, headers=headers)

        outcome = self._record("push", node, f"{self.repository}:{tag}", requests, good=(201,), value=pushed.digest)
        return pushed if outcome == "done" else None

    def new_image(self, layer_bytes: int = _LAYER_BYTES) -> Image:
        """Return an image that nobody has pushed yet."""
        return image(f"{self._seed} {self.project} {next(self._numbers)}", layers=1, layer_bytes=layer_bytes)

    def read(self, node: Addressed, tag: str) -> str | None:
        """Return which image the tag names, "" for none, None when the node did not say."""
        began_s = self._clock.monotonic_s()
        answer = self.ask(node, "HEAD", f"/v2/{self.repository}/manifests/{tag}")
        if answer is None or answer.status not in (200, 404):
            return None
        digest = (answer.header("Docker-Content-Digest") or "") if answer.status == 200 else ""
        self._note("read", node, f"{self.repository}:{tag}", "done", began_s, value=digest)
        return digest

    def untag(self, node: Addressed, tag: str) -> Outcome:
        """Delete the tag."""
        path = f"/v2/{self.repository}/manifests/{tag}"
        return self._record("untag", node, f"{self.repository}:{tag}", lambda: self.ask(node, "DELETE", path), good=(202,))

    def erase(self, node: Addressed, tag: str, digest: str) -> Outcome:
        """Delete an image that has this one tag."""
        began_s = self._clock.monotonic_s()
        path = f"/v2/{self.repository}/manifests/{digest}"
        outcome = self._record(
            "erase", node, f"{self.repository}@{digest}", lambda: self.ask(node, "DELETE", path), good=(202,)
        )
        self._note("untag", node, f"{self.repository}:{tag}", outcome, began_s)
        return outcome

    # -- rights --------------------------------------------------------------------------------------------------------

    def new_user(self, node: Addressed) -> Subject | None:
        """Make a user who may push to the project; None when that was not acknowledged."""
        name = f"u{next(self._numbers)}-{self.project}"
        body = {"username": name, "password": PASSWORD, "email": f"{name}@example.com", "realname": name, "comment": ""}
        made = self.ask(node, "POST", "/api/v2.0/users", body)
        if made is None or made.status != 201:
            return None
        member = {"role_id": _DEVELOPER, "member_user": {"username": name}}
        joined = self.ask(node, "POST", f"{self._project_path}/members", member)
        if joined is None or joined.status != 201:
            return None
        subject = Subject(
            name=name,
            login=name,
            password=PASSWORD,
            path=made.header("Location") or "",
            member_path=joined.header("Location") or "",
        )
        self.subjects.append(subject)
        return subject

    def new_robot(self, node: Addressed) -> Subject | None:
        """Make a robot that may push to the project; None when that was not acknowledged."""
        body = self._robot(f"r{next(self._numbers)}", disable=False)
        made = self.ask(node, "POST", "/api/v2.0/robots", body)
        if made is None or made.status != 201:
            return None
        shown: Any = made.json()
        subject = Subject(
            name=str(body["name"]), login=shown["name"], password=shown["secret"], path=made.header("Location") or ""
        )
        self.subjects.append(subject)
        return subject

    def _robot(self, name: str, *, disable: bool, description: str = "") -> dict[str, object]:
        access = [{"resource": "repository", "action": action} for action in ("pull", "push")]
        permissions = [{"kind": "project", "namespace": self.project, "access": access}]
        return {
            "name": name,
            "level": "project",
            "duration": -1,
            "description": description,
            "disable": disable,
            "permissions": permissions,
        }

    def weaken(self, node: Addressed, subject: Subject) -> Outcome:
        """Let a member pull only."""
        return self._revoke(node, subject, 1, "PUT", subject.member_path, {"role_id": _GUEST})

    def expel(self, node: Addressed, subject: Subject) -> Outcome:
        """Take a member out of the project."""
        return self._revoke(node, subject, 0, "DELETE", subject.member_path)

    def remove(self, node: Addressed, subject: Subject) -> Outcome:
        """Delete a user or a robot."""
        return self._revoke(node, subject, 0, "DELETE", subject.path)

    def disable(self, node: Addressed, subject: Subject) -> Outcome:
        """Disable a robot."""
        return self._revoke(node, subject, 0, "PUT", subject.path, self._robot(subject.name, disable=True))

    def rotate(self, node: Addressed, subject: Subject) -> Outcome:
        """Give a robot another secret, so that the old one opens nothing."""
        return self._revoke(node, subject, 0, "PATCH", subject.path, {"secret": "An0ther-secret"})

    def _revoke(  # noqa: PLR0917 - a subject and its request, in the order in which one says them
        self, node: Addressed, subject: Subject, strength: int, method: str, path: str, body: object = None
    ) -> Outcome:
        good = (200,)
        outcome = self._record(
            "revoke", node, subject.name, lambda: self.ask(node, method, path, body), good=good, strength=strength
        )
        if outcome != "refused":
            subject.strength = min(subject.strength, strength)
        return outcome

    def meddle(self, node: Addressed, subject: Subject) -> None:
        """Change a user in a way that gives no right; who has not heard of a revocation writes that all the same."""
        body = {"email": f"{secrets.token_hex(4)}@example.com", "realname": "changed", "comment": ""}
        self.ask(node, "PUT", subject.path, body)

    def promote(self, node: Addressed, subject: Subject) -> None:
        """Make a member a maintainer, as somebody does who has not heard that they are to have less."""
        self.ask(node, "PUT", subject.member_path, {"role_id": _MAINTAINER})

    def describe(self, node: Addressed, subject: Subject) -> None:
        """Change a robot's description, as somebody does who has not heard of anything else."""
        self.ask(node, "PUT", subject.path, self._robot(subject.name, disable=False, description="changed"))

    def set_administrator(self, node: Addressed, subject: Subject, *, wanted: bool) -> int:
        """Make a user an administrator or no more, and return the status."""
        answer = self.ask(node, "PUT", f"{subject.path}/sysadmin", {"sysadmin_flag": wanted})
        return answer.status if answer else 0

    def is_administrator(self, node: Addressed, subject: Subject) -> bool:
        """Tell whether a user may do what only administrators may."""
        answer = self.ask(node, "GET", "/api/v2.0/users", authorization=basic(subject.login, subject.password))
        assert answer is not None, f"{node.name} does not answer"
        return answer.expect(200, 403).status == http.client.OK

    def probe(self, node: Addressed, subject: Subject) -> int | None:
        """Return what the subject may do, or None when the node did not say."""
        began_s = self._clock.monotonic_s()
        strength = self.strength_of(node, subject)
        if strength is not None:
            self._note("probe", node, subject.name, "done", began_s, strength=strength)
        return strength

    def strength_of(self, node: Addressed, subject: Subject) -> int | None:
        """Return what a token for the subject allows; does not record it."""
        path = f"/service/token?service=harbor-registry&scope=repository:{self.repository}:pull,push"
        # From another address each time: who comes with wrong passwords is slowed down.
        headers = {"X-Forwarded-For": f"10.{secrets.randbelow(256)}.{secrets.randbelow(256)}.{secrets.randbelow(256)}"}
        answer = self.ask(node, "GET", path, headers=headers, authorization=basic(subject.login, subject.password))
        if answer is None or answer.status not in (200, 401, 403):
            return None
        return strength_in(answer)

    # -- sending and recording -----------------------------------------------------------------------------------------

    def ask(
        self,
        node: Addressed,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
        authorization: str = _ADMIN,
    ) -> Answer | None:
        """Return the answer, or None when there was none."""
        sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        given = headers or ({} if isinstance(body, bytes) else _JSON)
        client = RegistryClient(addresses=[node.address], timeout_s=PATIENCE_S)
        try:
            return client.request(method, path, headers=given, body=sent, authorization=authorization)
        except (OSError, http.client.HTTPException):
            return None

    def _record(
        self,
        kind: Kind,
        node: Addressed,
        key: str,
        requests: Callable[[], Answer | None],
        *,
        good: tuple[int, ...],
        value: str = "",
        strength: int = 0,
    ) -> Outcome:
        began_s = self._clock.monotonic_s()
        answer = requests()
        outcome: Outcome = "unknown"
        if answer is not None and answer.status < 500:
            outcome = "done" if answer.status in good else "refused"
        self._note(kind, node, key, outcome, began_s, value=value, strength=strength)
        return outcome

    def _note(
        self, kind: Kind, node: Addressed, key: str, outcome: Outcome, began_s: float, *, value: str = "", strength: int = 0
    ) -> None:
        # Appending is one step for all threads.
        self.operations.append(
            Operation(
                kind=kind,
                node=node.name,
                key=key,
                outcome=outcome,
                began_s=began_s,
                ended_s=self._clock.monotonic_s(),
                value=value,
                strength=strength,
            )
        )


def strength_in(answer: Answer) -> int:
    """Return how much the token in the answer allows; nothing if there is none."""
    if answer.status != http.client.OK:
        return 0
    document: Any = answer.json()
    part = document["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    actions = {action for access in claims.get("access") or () for action in access["actions"]}
    return 2 if "push" in actions else 1 if "pull" in actions else 0
