"""Robot accounts: what may be written about them. Their secrets are shown once and kept as hashes."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from twinhull.auth.passwords import PasswordChecker, RandomBytes, hash_secret, new_secret, require_strong
from twinhull.auth.robot_permissions import IN_SYSTEM
from twinhull.catalog.accounts import Written, changed_only, written
from twinhull.catalog.audit import note
from twinhull.catalog.lives import life_of_project
from twinhull.kit.errors import Conflict, Denied, Invalid, NotFound, ProjectUnknown
from twinhull.metadata import accounts as queries
from twinhull.metadata.accounts import Robot
from twinhull.metadata.filtering import NUL
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import ROBOT
from twinhull.records.merge import Value

SYSTEM: Final = "system"
PROJECT: Final = "project"
ANY_PROJECT: Final = "*"
# The namespace of rights in the system.
WHOLE_SYSTEM: Final = "/"
_IN_SYSTEM: Final = frozenset(IN_SYSTEM)
NEVER: Final = -1
NAME_LENGTH_MAX: Final = 255
DESCRIPTION_LENGTH_MAX: Final = 1024
PERMISSIONS_MAX: Final = 1000
DURATION_DAYS_MAX: Final = 36_500
_NAME: Final = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRobot:
    """A robot to be made."""

    # Without project and prefix.
    name: str
    level: str
    description: str
    # -1: never ends; 0: as the cluster's setting has it.
    duration_days: int
    default_duration_days: int
    # As Harbor's API has them: [{kind, namespace, access: [{resource, action, effect}]}].
    permissions: Sequence[Mapping[str, Any]]
    disable: bool = False
    # When it ends, where that is said itself instead of a duration.
    expires_at_s: int | None = None


class MadeRobot(NamedTuple):
    """A robot that was made: its key, and the secret that is shown this once."""

    id: int
    key: str
    secret: str
    created_ms: int
    expires_at_s: int
    seq: int


def require_robot(level: str, duration_days: int, description: str, permissions: Sequence[Mapping[str, Any]]) -> None:
    """Raise Invalid or Denied, in Harbor's words, unless a robot may be so."""
    if len(description) > DESCRIPTION_LENGTH_MAX or NUL in description:
        raise Invalid("bad request error description input")
    if level not in (SYSTEM, PROJECT):
        raise Invalid(f"bad request error level input: {level[:64]}")
    if not NEVER <= duration_days <= DURATION_DAYS_MAX:
        raise Invalid("bad request error duration input")
    _require_permissions(level, permissions)


def _require_permissions(level: str, permissions: Sequence[Mapping[str, Any]]) -> None:
    if not 1 <= len(permissions) <= PERMISSIONS_MAX:
        raise Invalid("bad request empty permission" if not permissions else f"more than {PERMISSIONS_MAX} permissions")
    for permission in permissions:
        if not permission.get("access"):
            raise Invalid("bad request empty access")
        _require_kind(level, permission)
    if level == PROJECT and len(permissions) > 1:
        raise Invalid("bad request permission")
    if level == PROJECT and permissions[0].get("namespace") == ANY_PROJECT:
        raise Denied("forbidden")


def _require_kind(level: str, permission: Mapping[str, Any]) -> None:
    """Raise Invalid unless that is rights in a project, or for a robot of the system known ones in the system."""
    kind = permission.get("kind")
    if kind == "project":
        return
    if kind != SYSTEM or level != SYSTEM or permission.get("namespace") != WHOLE_SYSTEM:
        raise Invalid("bad request error kind input: project, or for a robot of the system: system, with the namespace /")
    for access in permission.get("access") or []:
        if (access.get("resource", ""), access.get("action", "")) not in _IN_SYSTEM:
            shown = f"{access.get('resource', '')}:{access.get('action', '')}"
            raise Invalid(f"bad request permission: {shown[:128]}")


class Robots:
    """Makes, changes and deletes robot accounts."""

    def __init__(
        self, *, store: Store, executor: Executor, passwords: PasswordChecker, random_bytes: RandomBytes = os.urandom
    ) -> None:
        """Take the metadata, threads to write in, what hashes chosen secrets, and where secrets come from."""
        self._store = store
        self._executor = executor
        self._passwords = passwords
        self._random_bytes = random_bytes

    async def create(self, new: NewRobot) -> MadeRobot:
        """Make a robot; raises Invalid, Denied, ProjectUnknown, or Conflict for a name that is taken."""
        if not 1 <= len(new.name) <= NAME_LENGTH_MAX or not _NAME.fullmatch(new.name):
            raise Invalid("robot name is not in lower case or contains illegal characters")
        require_robot(new.level, new.duration_days, new.description, new.permissions)
        project = str(new.permissions[0].get("namespace", "")) if new.level == PROJECT else ""
        secret = new_secret(self._random_bytes)
        hashed = hash_secret(secret, self._random_bytes)
        key = f"{project}+{new.name}" if project else new.name
        fields: dict[str, Value] = {
            "level": new.level,
            "project": project,
            "description": new.description,
            "disable": new.disable,
            "secret_hash": hashed,
        }

        def make(transaction: Transaction) -> int:
            fields["permissions"] = _bound(transaction, new.level, new.permissions)
            number = _create(transaction, key, new, fields)
            note(transaction, "create", "robot", key, project=project)
            return number

        number, seq = await self._write(make)
        # The transaction filled in when it was made and when it ends.
        return MadeRobot(number, key, secret, int(str(fields["created_ms"])), int(str(fields["expires_at_s"])), seq)

    async def change(
        self,
        number: int,
        *,
        description: str,
        duration_days: int,
        default_duration_days: int,
        permissions: Sequence[Mapping[str, Any]],
        disable: bool,
    ) -> Written:
        """Change what may be changed of a robot; raises NotFound, Invalid or ProjectUnknown."""

        def change(transaction: Transaction) -> int:
            robot = _existing(transaction, number)
            if robot.level == PROJECT and permissions[0].get("namespace") != robot.project:
                raise Invalid("cannot update the project of robot")
            bound = _bound(transaction, robot.level, permissions)
            before: dict[str, Value] = {
                "description": robot.description,
                "permissions": list(robot.permissions),
                "disable": robot.disable,
                "duration_days": robot.duration_days,
            }
            wanted: dict[str, Value] = {
                "description": description,
                "permissions": list(permissions),
                "disable": disable,
                "duration_days": duration_days or default_duration_days,
            }
            changed = changed_only(before, wanted)
            if "permissions" in changed:
                changed["permissions"] = bound
            if disable:
                # Written even where it says the same: it must hold against somebody who enables it elsewhere right now.
                changed["disable"] = True
            if "duration_days" in changed:
                changed["expires_at_s"] = _expiry_s(robot.created_ms, int(str(wanted["duration_days"])))
            if changed:
                transaction.put(ROBOT, robot.name, {**changed, "updated_ms": transaction.now_ms()})
            return robot.id

        return await self._write(change)

    async def set_secret(self, number: int, chosen: str = "") -> tuple[str, Written]:
        """Give a robot another secret, a new one unless one is chosen, and return it; raises NotFound or Invalid."""
        if chosen:
            require_strong(chosen, "the secret")
            hashed = await self._passwords.hash(chosen)
        else:
            chosen = new_secret(self._random_bytes)
            hashed = hash_secret(chosen, self._random_bytes)

        def change(transaction: Transaction) -> int:
            robot = _existing(transaction, number)
            transaction.put(ROBOT, robot.name, {"secret_hash": hashed, "updated_ms": transaction.now_ms()})
            return robot.id

        return chosen, await self._write(change)

    async def delete(self, number: int) -> Written:
        """Delete a robot; raises NotFound."""

        def change(transaction: Transaction) -> int:
            robot = _existing(transaction, number)
            transaction.delete(ROBOT, robot.name)
            note(transaction, "delete", "robot", robot.name, project=robot.project)
            return robot.id

        return await self._write(change)

    async def _write(self, change: Callable[[Transaction], int]) -> Written:
        return await asyncio.get_running_loop().run_in_executor(self._executor, written, self._store, change)


def _existing(transaction: Transaction, number: int) -> Robot:
    robot = queries.find_robot_by_id(transaction.connection, number)
    if robot is None:
        raise NotFound(f"robot {number} not found")
    return robot


def _bound(transaction: Transaction, level: str, permissions: Sequence[Mapping[str, Any]]) -> list[Value]:
    """Return the list with, for the system's robots, what tells the projects that it names from later ones of their names.

    Raises ProjectUnknown for one that names a project that there is not.
    """
    bound: list[Value] = []
    for permission in permissions:
        namespace = str(permission.get("namespace", ""))
        lives = {}
        if permission.get("kind") == "project" and namespace != ANY_PROJECT:
            if queries.find_project(transaction.connection, namespace) is None:
                raise ProjectUnknown(f"project {namespace[:255]} not found")
            lives = life_of_project(transaction, namespace) if level == SYSTEM else {}
        bound.append({**permission, **lives})
    return bound


def _create(transaction: Transaction, key: str, new: NewRobot, fields: dict[str, Value]) -> int:
    if queries.find_robot(transaction.connection, key) is not None:
        project = queries.find_project(transaction.connection, str(fields["project"]))
        raise Conflict(f"robot account {project.id if project else 0}:{key} already exists")
    now_ms = transaction.now_ms()
    days = new.duration_days or new.default_duration_days
    expires_at_s = new.expires_at_s or _expiry_s(now_ms, days)
    fields.update(created_ms=now_ms, updated_ms=now_ms, duration_days=new.duration_days or days, expires_at_s=expires_at_s)
    # One that lives and can't be found hung on an earlier project of that name.
    transaction.delete(ROBOT, key)
    number = transaction.next_id(ROBOT)
    lives = life_of_project(transaction, str(fields["project"]))
    transaction.create(ROBOT, key, {**fields, **lives}, number=number)
    return number


def _expiry_s(created_ms: int, days: int) -> int:
    return NEVER if days == NEVER else created_ms // 1000 + days * _DAY_S
