"""Every kind of replicated record, its key, its fields and its merge rule: the table of DESIGN section 5 as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from twinhull.kit.hlc import Stamp
from twinhull.records.merge import Kind, Resolver, Value, earliest, first_if_marked, union, weakest

# Harbor's role ids, from the weakest to the strongest: limited guest, guest, developer, maintainer, project admin.
_ROLES_BY_POWER: Final = (5, 3, 2, 4, 1)


def _role_power(role: Value) -> int:
    return _ROLES_BY_POWER.index(role) if role in _ROLES_BY_POWER else -1


def _lower_if(*, weaker: bool) -> Callable[[Value], int]:
    # A flag that nobody has set is off.
    return lambda value: 0 if bool(value) == weaker else 1


def _is_immutable(target: Value) -> bool:
    return isinstance(target, Mapping) and bool(target.get("immutable"))


# Harbor's integer ids are given out without coordination. If both sides create the same key while apart, both ids
# stay in the record, each with its stamp: the earliest is the id, the others are aliases of it.
_COMMON: Final[Mapping[str, Resolver]] = {"ids": union, "created_ms": earliest}
# When something was made or last changed is a fact about the write itself: concurrent writers do not contradict each other.
_QUIET: Final = frozenset({"ids", "created_ms", "updated_ms"})


def new_ids(number: int, stamp: Stamp) -> list[list[int | str]]:
    """Return the `ids` field of a record that is created with this id."""
    return [[stamp.ms, stamp.counter, stamp.origin, number]]


def id_and_aliases(ids: Value) -> tuple[int, list[int]]:
    """Return the id that holds, and those that go on resolving to the same thing."""
    numbers = [int(entry[3]) for entry in sorted(ids)] if isinstance(ids, list) else []
    return (numbers[0], numbers[1:]) if numbers else (0, [])


# One mechanism for every kind; what is not named here is settled by "the latest wins", field by field.
NODE: Final = Kind(name="node", delete_wins=True)  # node id
SETTING: Final = Kind(name="setting", delete_wins=False)  # name of the setting
USER: Final = Kind(  # user name
    name="user",
    delete_wins=True,
    resolvers={**_COMMON, "sysadmin": weakest(_lower_if(weaker=False)), "disabled": weakest(_lower_if(weaker=True))},
    quiet=_QUIET,
    secret=frozenset({"password_hash"}),
)
PROJECT: Final = Kind(name="project", delete_wins=False, resolvers=_COMMON, quiet=_QUIET)  # project name
MEMBER: Final = Kind(  # project/u/user name or project/g/group name
    name="member", delete_wins=True, resolvers={**_COMMON, "role": weakest(_role_power)}, quiet=_QUIET
)
ROBOT: Final = Kind(  # full name without prefix: name, or project+name
    name="robot",
    delete_wins=True,
    resolvers={**_COMMON, "disable": weakest(_lower_if(weaker=True))},
    quiet=_QUIET,
    secret=frozenset({"secret_hash"}),
)
REPOSITORY: Final = Kind(name="repository", delete_wins=False, resolvers=_COMMON, quiet=_QUIET)  # repository name
MANIFEST: Final = Kind(  # repository@digest
    name="manifest",
    delete_wins=False,
    # The same bytes pushed on both sides: what was pushed first holds.
    resolvers={**_COMMON, "pushed_ms": earliest, "pushed_by": earliest},
    # A node without the configuration's bytes knows no attributes.
    quiet=_QUIET | {"pushed_ms", "pushed_by", "attributes"},
)
TAG: Final = Kind(  # repository:tag
    name="tag", delete_wins=False, resolvers={**_COMMON, "target": first_if_marked(_is_immutable)}, quiet=_QUIET
)
BLOB: Final = Kind(name="blob", delete_wins=False, quiet=frozenset({"linked_ms"}))  # repository@digest: uploaded or mounted

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind for kind in (NODE, SETTING, USER, PROJECT, MEMBER, ROBOT, REPOSITORY, MANIFEST, TAG, BLOB)
}


def content_key(repository: str, digest: str) -> str:
    """Return the key of a manifest or blob record."""
    return f"{repository}@{digest}"


def split_content_key(key: str) -> tuple[str, str]:
    """Return the repository and digest of a manifest's or blob's key."""
    repository, _, digest = key.partition("@")
    return repository, digest


def tag_key(repository: str, tag: str) -> str:
    """Return the key of a tag record."""
    return f"{repository}:{tag}"


def split_tag_key(key: str) -> tuple[str, str]:
    """Return the repository and name of a tag's key."""
    repository, _, tag = key.partition(":")
    return repository, tag


def member_key(project: str, entity_type: str, entity: str) -> str:
    """Return the key of a member record; the entity type is "u" for users and "g" for groups, as Harbor has it."""
    return f"{project}/{entity_type}/{entity}"


def split_member_key(key: str) -> tuple[str, str, str]:
    """Return the project, entity type and entity of a member's key."""
    project, entity_type, entity = key.split("/", 2)
    return project, entity_type, entity
