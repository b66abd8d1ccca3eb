"""Projects and their members: what may be written about them, and what goes with it in the same transaction."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from twinhull.auth.permissions import Role
from twinhull.catalog.accounts import ADMIN, Written, written
from twinhull.catalog.audit import note
from twinhull.catalog.documents import create_document, delete_documents_of, set_document
from twinhull.catalog.lives import lives_of_member
from twinhull.catalog.quotas import begin_quota
from twinhull.catalog.retention import pulled_within
from twinhull.catalog.user_groups import GroupOf, group_to_add
from twinhull.config.values import LEVELS, OnPeerLoss
from twinhull.kit.errors import Conflict, Invalid, NotFound, ProjectNotEmpty, ProjectUnknown
from twinhull.metadata import accounts as queries
from twinhull.metadata.accounts import Member, Project
from twinhull.metadata.documents import find_by_id
from twinhull.metadata.filtering import NUL
from twinhull.metadata.groups import is_member_of
from twinhull.metadata.repositories import projects_for_registry
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import ALLOWLIST, MEMBER, PROJECT, REGISTRY, RETENTION, ROBOT, member_key
from twinhull.records.merge import Value, values_of

LIBRARY: Final = "library"
NAME_LENGTH_MAX: Final = 255
_NAME: Final = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")

# What a project's metadata may hold; values are strings, as in Harbor. Others are kept where they come one by one, and
# dropped without a word where the project is written as a whole, both as in Harbor.
METADATA_KEYS: Final = (
    *("public", "enable_content_trust", "prevent_vul", "severity", "auto_scan", "reuse_sys_cve_allowlist"),
    # Of newer Harbors.
    *("enable_content_trust_cosign", "auto_sbom_generation", "proxy_speed_kb", "max_upstream_conn"),
    *("proxy_cache_local_on_not_found", "proxy_referrer_api", "proxy_cache_filter_pattern", "proxy_cache_filter_kind"),
    # Our own: what writes in this project wait for, and what becomes of them when a peer is lost; empty: as the cluster has it.
    DURABILITY_KEY := "durability",
    ON_PEER_LOSS_KEY := "on_peer_loss",
)
_OURS: Final = {DURABILITY_KEY: ("", *LEVELS), ON_PEER_LOSS_KEY: ("", *OnPeerLoss)}
METADATA_LENGTH_MAX: Final = 255
# So many items that nobody here knows a project keeps.
OTHER_ITEMS_MAX: Final = 50
# Each item is a field of its own, so that two nodes can change different ones at the same time.
_METADATA_FIELD: Final = "metadata."
# Shown with the others, and written by what they are about alone: the ids of the retention policy and of the scanner.
RETENTION_KEY: Final = "retention_id"
SCANNER_KEY: Final = "projectScanner"
SHOWN_KEYS: Final = (*METADATA_KEYS, RETENTION_KEY, SCANNER_KEY)
# Which registries a project can stand for, and for how many days after its last pull it keeps what came from there.
PROXIED_TYPES: Final = (
    *("docker-hub", "harbor", "azure-acr", "ali-acr", "aws-ecr", "google-gcr", "quay", "docker-registry"),
    *("github-ghcr", "jfrog-artifactory"),
)
PROXY_RETENTION_DAYS: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProject:
    """A project to be made."""

    name: str
    metadata: Mapping[str, str]
    # The user who makes it and becomes its first member; empty when a robot does.
    owner: str
    # Whom to show as owner where there is no user.
    owner_shown: str = ADMIN
    # The bytes that it may store; None: as the cluster's settings have it.
    storage_limit: int | None = None
    # The registry whose content it is to stand for, by its id; None for a project that takes pushes.
    registry_id: int | None = None


def require_project_name(name: str) -> None:
    """Raise Invalid, in Harbor's words, unless that can be a project's name."""
    if not 1 <= len(name) <= NAME_LENGTH_MAX:
        shown = name[: 2 * NAME_LENGTH_MAX]
        raise Invalid(f"Project name {shown} is illegal in length. (greater than 255 or less than 1)")
    if not _NAME.fullmatch(name):
        raise Invalid("project name is not in lower case or contains illegal characters")


def metadata_fields(metadata: Mapping[str, str]) -> dict[str, Value]:
    """Return the known items as fields of a project's record; raises Invalid for one that can't be kept."""
    for key in METADATA_KEYS:
        value = metadata.get(key, "")
        _require_text(key, value)
    for key, known in _OURS.items():
        if metadata.get(key, "") not in known:
            raise Invalid(f"metadata {key} must be {', '.join(known[1:])} or empty")
    return {_METADATA_FIELD + key: metadata[key] for key in METADATA_KEYS if key in metadata}


def _require_text(key: str, value: str) -> None:
    if not 1 <= len(key) <= METADATA_LENGTH_MAX or len(value) > METADATA_LENGTH_MAX or NUL in key + value:
        raise Invalid(f"metadata {key[:METADATA_LENGTH_MAX]} is too long or no text")


def _require_own(key: str) -> None:
    if key in (RETENTION_KEY, SCANNER_KEY):
        raise Invalid(f"metadata {key} comes and goes with what it is about")


class Projects:
    """Makes, changes and deletes projects and members."""

    def __init__(self, *, store: Store, executor: Executor) -> None:
        """Take the metadata, and threads to write in."""
        self._store = store
        self._executor = executor

    async def create(self, new: NewProject) -> Written:
        """Make a project with its maker as administrator, or raise Invalid, or Conflict for a name that is taken."""
        require_project_name(new.name)
        fields = metadata_fields(new.metadata)

        def change(transaction: Transaction) -> int:
            number = _create(transaction, new, fields)
            note(transaction, "create", "project", new.name, project=new.name)
            return number

        return await self._write(change)

    async def change_metadata(
        self, name: str, metadata: Mapping[str, str], *, allowlist: Mapping[str, Value] | None = None
    ) -> Written:
        """Set items of a project's metadata, and its list of CVEs if one is given; raises ProjectUnknown or Invalid."""
        fields = metadata_fields(metadata)

        def change(transaction: Transaction) -> int:
            project = _existing(transaction, name)
            if fields:
                keep_alive(transaction, project)
                transaction.put(PROJECT, name, {**fields, "updated_ms": transaction.now_ms()})
            if allowlist is not None:
                set_document(transaction, ALLOWLIST, allowlist, project=name)
            note(transaction, "update", "project", name, project=name)
            return project.id

        return await self._write(change)

    async def add_other_metadata(self, name: str, key: str, value: str) -> Written:
        """Keep an item of metadata that nobody here knows, for clients of their own; raises ProjectUnknown or Invalid."""
        _require_text(key, value)
        _require_own(key)

        def change(transaction: Transaction) -> int:
            project = _existing(transaction, name)
            if len(project.metadata.keys() - set(SHOWN_KEYS) - {key}) >= OTHER_ITEMS_MAX:
                raise Invalid(f"a project keeps {OTHER_ITEMS_MAX} items of metadata that are not known here at most")
            keep_alive(transaction, project)
            transaction.put(PROJECT, name, {_METADATA_FIELD + key: value, "updated_ms": transaction.now_ms()})
            note(transaction, "update", "project", name, project=name)
            return project.id

        return await self._write(change)

    async def remove_metadata(self, name: str, key: str) -> Written:
        """Take an item of a project's metadata away; raises ProjectUnknown, or Invalid for one that another resource owns."""
        _require_own(key)

        def change(transaction: Transaction) -> int:
            project = _existing(transaction, name)
            keep_alive(transaction, project)
            transaction.put(PROJECT, name, {_METADATA_FIELD + key: None, "updated_ms": transaction.now_ms()})
            note(transaction, "update", "project", name, project=name)
            return project.id

        return await self._write(change)

    async def delete(self, name: str) -> Written:
        """Delete a project; raises ProjectUnknown, or ProjectNotEmpty while it has repositories.

        Members and robots stay written down, out of sight: if another node pushes to the project at the same time it lives
        on, with them. Who makes a project of that name anew finds none of them.
        """

        def change(transaction: Transaction) -> int:
            project = _existing(transaction, name)
            if queries.count_repositories(transaction.connection, [name]):
                raise ProjectNotEmpty
            transaction.delete(PROJECT, name)
            note(transaction, "delete", "project", name, project=name)
            return project.id

        return await self._write(change)

    # -- members ---------------------------------------------------------------------------------------------------

    async def add_member(self, project: str, *, role: int, user: str = "", user_id: int = 0) -> Written:
        """Make a user, known by name or by id, a member; raises Invalid, ProjectUnknown, or Conflict for one who is."""
        if role not in Role._value2member_map_:
            raise Invalid(f"Invalid role ID, role ID {role}")

        def change(transaction: Transaction) -> int:
            _existing(transaction, project)
            connection = transaction.connection
            found = queries.find_user_by_id(connection, user_id) if user_id else queries.find_user(connection, user)
            if found is None:
                raise Invalid(f"user {user or user_id} not found")
            number = _add_member(transaction, project, found.name, role)
            note(transaction, "create", "member", found.name, project=project)
            return number

        return await self._write(change)

    async def add_group(self, project: str, *, role: int, group: GroupOf) -> Written:
        """Make a user group a member; raises Invalid, NotFound, ProjectUnknown, or Conflict for one that is.

        A group of the kinds that nobody lists beforehand is made when it is named.
        """
        if role not in Role._value2member_map_:
            raise Invalid(f"Invalid role ID, role ID {role}")

        def change(transaction: Transaction) -> int:
            _existing(transaction, project)
            name = group_to_add(transaction, group)
            number = _add_member(transaction, project, name, role, entity_type="g")
            note(transaction, "create", "member", name, project=project)
            return number

        return await self._write(change)

    async def set_role(self, project: str, number: int, role: int) -> Written:
        """Give a member another role; raises Invalid or NotFound."""
        if role not in Role._value2member_map_:
            raise Invalid(f"Invalid role id {role}")

        def change(transaction: Transaction) -> int:
            member = _existing_member(transaction, project, number)
            # Written even where it says the same: it must hold against somebody who raises it elsewhere right now.
            fields = {"role": role, "updated_ms": transaction.now_ms()}
            transaction.put(MEMBER, member_key(project, member.entity_type, member.entity), fields)
            note(transaction, "update", "member", member.entity, project=project)
            return member.id

        return await self._write(change)

    async def remove_member(self, project: str, number: int) -> Written:
        """Remove a member; raises NotFound."""

        def change(transaction: Transaction) -> int:
            member = _existing_member(transaction, project, number)
            transaction.delete(MEMBER, member_key(project, member.entity_type, member.entity))
            note(transaction, "delete", "member", member.entity, project=project)
            return member.id

        return await self._write(change)

    async def _write(self, change: Callable[[Transaction], int]) -> Written:
        return await asyncio.get_running_loop().run_in_executor(self._executor, written, self._store, change)


def _existing(transaction: Transaction, name: str) -> Project:
    project = queries.find_project(transaction.connection, name)
    if project is None:
        raise ProjectUnknown(f"project {name} not found")
    return project


def _existing_member(transaction: Transaction, project: str, number: int) -> Member:
    found = _existing(transaction, project)
    member = queries.find_member(transaction.connection, project, number)
    if member is None:
        raise NotFound(f"project member {number} not found in project {found.id}")
    return member


def _create(transaction: Transaction, new: NewProject, fields: Mapping[str, Value]) -> int:
    if queries.find_project(transaction.connection, new.name) is not None:
        raise Conflict(f"The project named {new.name} already exists")
    owner = new.owner or new.owner_shown
    registry = _proxied(transaction, new.registry_id) if new.registry_id is not None else None
    number = _insert(
        transaction, new.name, owner, {_METADATA_FIELD + "public": "false", **fields, "registry": registry}, new.storage_limit
    )
    if new.owner and queries.find_user(transaction.connection, new.owner) is not None:
        _add_member(transaction, new.name, new.owner, Role.PROJECT_ADMIN)
    if registry is not None:
        # As in Harbor: what nobody pulls any more can be had from there again.
        policy = create_document(transaction, RETENTION, pulled_within(PROXY_RETENTION_DAYS), project=new.name)
        set_shown(transaction, new.name, RETENTION_KEY, str(policy))
    return number


def _proxied(transaction: Transaction, number: int) -> str:
    """Return the name of the registry with that id, or raise Invalid or NotFound when no project can stand for it."""
    if number <= 0:
        raise Invalid(f"{number} is invalid value of registry_id, it should be greater than 0")
    found = find_by_id(transaction.connection, REGISTRY, number)
    if found is None:
        raise NotFound(f"registry {number} not found")
    kind = str(found.fields.get("type"))
    if kind not in PROXIED_TYPES:
        raise Invalid(f"unsupported registry type {kind}")
    return found.name


def _insert(
    transaction: Transaction, name: str, owner: str, fields: Mapping[str, Value], storage_limit: int | None = None
) -> int:
    # What hung on this name in an earlier life must not come back with it.
    for key in queries.member_keys(transaction.connection, project=name):
        transaction.delete(MEMBER, key)
    for key in queries.robot_keys(transaction.connection, name):
        transaction.delete(ROBOT, key)
    delete_documents_of(transaction, name)
    # Metadata that was set in an earlier life would show through where this one says nothing.
    unset = {"registry": None, **{_METADATA_FIELD + key: None for key in SHOWN_KEYS}}
    before = transaction.get(PROJECT, name)
    if before is not None:
        unset |= {field: None for field in values_of(PROJECT, before) if field.startswith(_METADATA_FIELD)}
    number = transaction.next_id(PROJECT)
    now_ms = transaction.now_ms()
    complete = {"owner": owner, "created_ms": now_ms, "updated_ms": now_ms, **unset, **fields}
    transaction.create(PROJECT, name, complete, number=number)
    begin_quota(transaction, name, storage_limit)
    return number


def _add_member(transaction: Transaction, project: str, entity: str, role: int, *, entity_type: str = "u") -> int:
    key = member_key(project, entity_type, entity)
    if is_member_of(transaction.connection, project, entity_type, entity):
        raise Conflict("Failed to add project member, already exist group or project member, groupMemberID:0")
    # One that lives and has no role hung on an earlier project, or user, of that name.
    transaction.delete(MEMBER, key)
    number = transaction.next_id(MEMBER)
    now_ms = transaction.now_ms()
    lives = lives_of_member(transaction, project, entity_type, entity)
    transaction.create(MEMBER, key, {"role": int(role), "created_ms": now_ms, "updated_ms": now_ms, **lives}, number=number)
    return number


def set_shown(transaction: Transaction, name: str, key: str, value: str | None) -> None:
    """Show something among a project's metadata that clients can't set there, or no more; raises ProjectUnknown."""
    keep_alive(transaction, _existing(transaction, name))
    transaction.put(PROJECT, name, {_METADATA_FIELD + key: value, "updated_ms": transaction.now_ms()})


def stand_for(transaction: Transaction, registry: str, renamed: str) -> None:
    """Let the projects that stand for a registry's content go on doing so under its new name."""
    for name in projects_for_registry(transaction.connection, registry):
        keep_alive(transaction, _existing(transaction, name))
        transaction.put(PROJECT, name, {"registry": renamed})


def keep_alive(transaction: Transaction, project: Project) -> None:
    """Make a project whose record is dead, and that lives through its artifacts only, a living one with all it had."""
    if transaction.values(PROJECT, project.name) is None:
        items = {_METADATA_FIELD + key: project.metadata.get(key) for key in {*SHOWN_KEYS, *project.metadata}}
        fields = {"owner": project.owner, "created_ms": project.created_ms, "updated_ms": project.updated_ms, **items}
        if project.registry:
            fields["registry"] = project.registry
        transaction.create(PROJECT, project.name, fields, number=project.id)


def create_library(transaction: Transaction) -> int:
    """Make the public project that every new cluster has, with the administrator as its member."""
    number = _insert(transaction, LIBRARY, ADMIN, {_METADATA_FIELD + "public": "true"})
    _add_member(transaction, LIBRARY, ADMIN, Role.PROJECT_ADMIN)
    return number
