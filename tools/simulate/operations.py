"""What clients do to a node: each is a request as its handler carries it out, on the real use cases."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from sqlalchemy import Connection

from tools.simulate.worker import Worker
from tools.simulate.world import ROBOT_PERMISSIONS
from twinhull.auth.permissions import PUSH
from twinhull.catalog.accounts import ADMIN_ID, NewUser
from twinhull.catalog.pushing import Push
from twinhull.catalog.robots import PROJECT as OF_PROJECT
from twinhull.catalog.robots import NewRobot
from twinhull.kit.digest import Digest, digest_of
from twinhull.kit.errors import ManifestUnknown, NotFound
from twinhull.metadata import accounts
from twinhull.metadata.store import Store
from twinhull.replication.threads import in_thread

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A small image: one blob, and the manifest that names it."""

    blob: bytes
    content: bytes

    @property
    def blob_digest(self) -> Digest:
        """The digest of its one blob."""
        return digest_of(self.blob)

    @property
    def digest(self) -> Digest:
        """The digest of its manifest."""
        return digest_of(self.content)


def image(name: str) -> Image:
    """Return the image of that name: always the same bytes."""
    blob = f"blob of {name}".encode()
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(blob), "size": len(blob)}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": []}
    return Image(blob=blob, content=json.dumps(manifest).encode())


# -- content -----------------------------------------------------------------------------------------------------------


async def push_blob(worker: Worker, repository: str, one: Image) -> str:
    """Upload the image's blob; return the level that was reached."""

    def store() -> int:
        worker.blobs.put(one.blob_digest, one.blob)
        return worker.contents.link_now(repository, one.blob_digest, len(one.blob))

    seq = await in_thread(worker.executor, store)
    worker.peers.ended(f"upload-{one.blob_digest[-8:]}", one.blob_digest)
    return await worker.peers.reached(seq)


async def push_manifest(worker: Worker, repository: str, one: Image, tag: str) -> str:
    """Push the image's manifest under a tag; return the level that was reached."""
    push = Push(repository=repository, reference=tag, content=one.content, content_type=MANIFEST_TYPE, pushed_by="somebody")
    pushed = await worker.pushing.push(push)
    return await worker.peers.reached(pushed.seq, repository=repository, digest=pushed.digest)


async def delete_content(worker: Worker, repository: str, reference: str) -> str:
    """Delete a tag or a manifest; return the level that was reached."""
    return await worker.peers.reached(await worker.deleting.delete(repository, reference))


async def pull(worker: Worker, repository: str, tag: str) -> str | None:
    """Return the digest that the tag names, None if there is no such tag."""
    found = worker.artifacts.remembered(repository, tag)
    try:
        return (found or await worker.artifacts.pull(repository, tag)).digest
    except ManifestUnknown:
        return None


# -- accounts ----------------------------------------------------------------------------------------------------------


class _Numbered(Protocol):
    @property
    def id(self) -> int: ...


async def _number(worker: Worker, look: Callable[[Connection], _Numbered | None]) -> int:
    """Return the id of what is found, or raise NotFound."""

    def read(store: Store) -> _Numbered | None:
        with store.read() as connection:
            return look(connection)

    found = await in_thread(worker.executor, read, worker.store)
    if found is None:
        raise NotFound("nobody of that name is here")
    return found.id


async def _user(worker: Worker, name: str) -> int:
    return await _number(worker, lambda connection: accounts.find_user(connection, name))


async def _robot(worker: Worker, name: str) -> int:
    return await _number(worker, lambda connection: accounts.find_robot(connection, name))


async def _member(worker: Worker, project: str, user: str) -> int:
    def look(connection: Connection) -> accounts.Member | None:
        found, _ = accounts.list_members(connection, project)
        return next((member for member in found if member.entity == user), None)

    return await _number(worker, look)


async def create_user(worker: Worker, name: str) -> str:
    """Make a user."""
    new = NewUser(name=name, email=f"{name}@example.com", realname=name, password="Secret123456")  # noqa: S106 - opens nothing
    return await worker.peers.reached((await worker.users.create(new)).seq)


async def delete_user(worker: Worker, name: str) -> str:
    """Delete a user."""
    return await worker.peers.reached((await worker.users.delete(await _user(worker, name), by=ADMIN_ID)).seq)


async def set_sysadmin(worker: Worker, name: str, *, sysadmin: bool) -> str:
    """Make a user an administrator, or no more."""
    return await worker.peers.reached((await worker.users.set_sysadmin(await _user(worker, name), sysadmin=sysadmin)).seq)


async def add_member(worker: Worker, project: str, user: str, role: int) -> str:
    """Make a user a member."""
    return await worker.peers.reached((await worker.projects.add_member(project, role=role, user=user)).seq)


async def set_role(worker: Worker, project: str, user: str, role: int) -> str:
    """Give a member another role."""
    number = await _member(worker, project, user)
    return await worker.peers.reached((await worker.projects.set_role(project, number, role)).seq)


async def remove_member(worker: Worker, project: str, user: str) -> str:
    """Remove a member."""
    number = await _member(worker, project, user)
    return await worker.peers.reached((await worker.projects.remove_member(project, number)).seq)


async def create_robot(worker: Worker, name: str) -> str:
    """Make a robot of the project `team`."""
    new = NewRobot(
        name=name,
        level=OF_PROJECT,
        description="",
        duration_days=30,
        default_duration_days=30,
        permissions=ROBOT_PERMISSIONS,
    )
    return await worker.peers.reached((await worker.robots.create(new)).seq)


async def set_disabled(worker: Worker, name: str, *, disable: bool) -> str:
    """Disable a robot, or enable it."""
    written = await worker.robots.change(
        await _robot(worker, name),
        description="",
        duration_days=30,
        default_duration_days=30,
        permissions=ROBOT_PERMISSIONS,
        disable=disable,
    )
    return await worker.peers.reached(written.seq)


async def delete_robot(worker: Worker, name: str) -> str:
    """Delete a robot."""
    return await worker.peers.reached((await worker.robots.delete(await _robot(worker, name))).seq)


async def is_in_force(worker: Worker, name: str) -> bool:
    """Tell whether the user or robot could log in."""
    return await worker.guard.subject(name) is not None


async def may_push(worker: Worker, user: str, project: str) -> bool:
    """Tell whether the user may push to the project."""
    subject = await worker.guard.subject(user)
    if subject is None or subject.is_admin:
        return False
    return PUSH in (await worker.guard.allowance(subject, project)).actions


Write = Callable[[Worker], Awaitable[str]]
