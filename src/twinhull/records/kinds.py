"""Every kind of replicated record, its key, its fields and its merge rule: the table of DESIGN section 5 as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from twinhull.kit.hlc import Stamp
from twinhull.records.merge import Kind, Resolver, Value, earliest, first_if_marked, greatest, union, weakest

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
# In which life of its project, or of its label, something was made: the newest entry of that one's `ids` then. Projects
# die and are made anew under the same name; what was hung on the old one meanwhile has no place in the new one.
LIFE: Final = "life"
# And a member in which life of its user or group.
ENTITY_LIFE: Final = "entity_life"


_LIFE_LENGTH: Final = 4


def new_ids(number: int, stamp: Stamp) -> list[list[int | str]]:
    """Return the `ids` field of a record that is created with this id."""
    return [[stamp.ms, stamp.counter, stamp.origin, number]]


def id_and_aliases(ids: Value) -> tuple[int, list[int]]:
    """Return the id that holds, and those that go on resolving to the same thing."""
    numbers = [int(entry[3]) for entry in sorted(ids)] if isinstance(ids, list) else []
    return (numbers[0], numbers[1:]) if numbers else (0, [])


def life_of(ids: Value) -> Value:
    """Return the `life` of what is hung, now, on a thing with these `ids`."""
    return max(ids, default=None) if isinstance(ids, list) else None


def number_of_life(life: Value) -> int:
    """Return the integer id that the thing had in that life; 0 for what may hang on any."""
    return int(life[3]) if isinstance(life, list) and len(life) == _LIFE_LENGTH and isinstance(life[3], int) else 0


# One mechanism for every kind; what is not named here is settled by "the latest wins", field by field.
NODE: Final = Kind(name="node", delete_wins=True)  # node id
# The setting that says which authorities the cluster's nodes believe: like its nodes, a cluster's own affair.
TRUST_SETTING: Final = "twinhull.trust"
SETTING: Final = Kind(  # name of the setting
    name="setting",
    delete_wins=False,
    # What Harbor's configuration calls a password, and the authorities with the sealed key of the one that signs.
    secret_keys=frozenset({"email_password", "ldap_search_password", "oidc_client_secret", "uaa_client_secret", TRUST_SETTING}),
)
USER: Final = Kind(  # user name
    name="user",
    delete_wins=True,
    resolvers={**_COMMON, "sysadmin": weakest(_lower_if(weaker=False)), "disabled": weakest(_lower_if(weaker=True))}
    | {"admin_in_auth": weakest(_lower_if(weaker=False))},
    quiet=_QUIET,
    secret=frozenset({"password_hash", "cli_secret"}),
)
PROJECT: Final = Kind(name="project", delete_wins=False, resolvers=_COMMON, quiet=_QUIET)  # project name
MEMBER: Final = Kind(  # project/u/user name or project/g/group name
    name="member",
    delete_wins=True,
    resolvers={**_COMMON, LIFE: greatest, ENTITY_LIFE: greatest, "role": weakest(_role_power)},
    quiet=_QUIET | {LIFE, ENTITY_LIFE},
)
ROBOT: Final = Kind(  # full name without prefix: name, or project+name
    name="robot",
    delete_wins=True,
    resolvers={**_COMMON, LIFE: greatest, "disable": weakest(_lower_if(weaker=True))},
    quiet=_QUIET | {LIFE},
    secret=frozenset({"secret_hash"}),
)
SESSION_END: Final = Kind(name="session_end", delete_wins=False)  # id of a browser's session that was logged out
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


def _document(name: str, *, delete_wins: bool = False, secret: frozenset[str] = frozenset()) -> Kind:
    resolvers = {**_COMMON, LIFE: greatest}
    return Kind(name=name, delete_wins=delete_wins, resolvers=resolvers, quiet=_QUIET | {LIFE}, secret=secret)


# Documents: configuration that is read whole, all with the key project/name (document_key) and in one table. Without a
# project they are the whole cluster's; a project has one of those without a name.
USER_GROUP: Final = _document("user_group", delete_wins=True)  # name
LABEL: Final = _document("label")  # project or none, name
IMMUTABILITY: Final = _document("immutability")  # project, name
RETENTION: Final = _document("retention")  # project
WEBHOOK: Final = _document("webhook", secret=frozenset({"targets"}))  # project, name; its targets bear Authorization headers
QUOTA: Final = _document("quota")  # project
ALLOWLIST: Final = _document("allowlist")  # project, or none for the system's
REGISTRY: Final = _document("registry", secret=frozenset({"access_secret"}))  # name
REPLICATION_POLICY: Final = _document("replication_policy")  # name
SCANNER: Final = _document("scanner", secret=frozenset({"access_credential"}))  # name
PREHEAT_INSTANCE: Final = _document("preheat_instance", secret=frozenset({"auth_info"}))  # name
PREHEAT_POLICY: Final = _document("preheat_policy")  # project, name
SCHEDULE: Final = _document("schedule")  # name of what is done
SETTLED: Final = _document("settled_conflict")  # name of a conflict that somebody has seen to
DOCUMENTS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        *(USER_GROUP, LABEL, IMMUTABILITY, RETENTION, WEBHOOK, QUOTA, ALLOWLIST, REGISTRY, REPLICATION_POLICY, SCANNER),
        *(PREHEAT_INSTANCE, PREHEAT_POLICY, SCHEDULE, SETTLED),
    )
}

ARTIFACT_LABEL: Final = Kind(  # repository@digest/key of the label
    name="artifact_label", delete_wins=False, resolvers={"created_ms": earliest, LIFE: greatest}, quiet=_QUIET | {LIFE}
)
PULLS: Final = Kind(  # repository@digest/node; a repository's own: repository@/node
    name="pulls",
    delete_wins=False,
    # Only its node writes it; a restored node may have counted some of them twice under two origins.
    resolvers={"count": greatest, "last_ms": greatest},
    quiet=frozenset({"count", "last_ms"}),
)
EXECUTION: Final = Kind(name="execution", delete_wins=False, resolvers=_COMMON, quiet=_QUIET)  # owner node/id
TASK: Final = Kind(name="task", delete_wins=False, resolvers=_COMMON, quiet=_QUIET)  # owner node/id
PROGRESS: Final = Kind(  # node: what it has applied, and up to where it has dropped deletions
    name="progress", delete_wins=False, quiet=frozenset({"applied", "dropped"})
)
AUDIT: Final = Kind(name="audit", delete_wins=False, resolvers=_COMMON, quiet=_QUIET)  # node/id; append only

KINDS: Final[Mapping[str, Kind]] = {
    **{kind.name: kind for kind in (NODE, SETTING, USER, PROJECT, MEMBER, ROBOT, SESSION_END, REPOSITORY, MANIFEST, TAG, BLOB)},
    **DOCUMENTS,
    **{kind.name: kind for kind in (ARTIFACT_LABEL, PULLS, EXECUTION, TASK, AUDIT, PROGRESS)},
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


def document_key(project: str, name: str) -> str:
    """Return the key of a document; the project is empty for what the whole cluster has."""
    return f"{project}/{name}"


def split_document_key(key: str) -> tuple[str, str]:
    """Return the project and name of a document's key."""
    project, _, name = key.partition("/")
    return project, name


def artifact_label_key(repository: str, digest: str, label: str) -> str:
    """Return the key of a label's attachment; the label is named by its key."""
    return f"{repository}@{digest}/{label}"


def split_artifact_label_key(key: str) -> tuple[str, str, str]:
    """Return the repository, the digest and the label's key of an attachment."""
    repository, _, rest = key.partition("@")
    digest, _, label = rest.partition("/")
    return repository, digest, label


def pulls_key(repository: str, digest: str, node: str) -> str:
    """Return the key of a node's count of pulls; an empty digest stands for the repository as a whole."""
    return f"{repository}@{digest}/{node}"


def split_pulls_key(key: str) -> tuple[str, str, str]:
    """Return the repository, digest and node of a count's key."""
    return split_artifact_label_key(key)


def owned_key(node: str, number: int) -> str:
    """Return the key of what belongs to one node: executions, tasks, audit records."""
    return f"{node}/{number}"


def split_owned_key(key: str) -> tuple[str, int]:
    """Return the node and number of such a key."""
    node, _, number = key.rpartition("/")
    return node, int(number) if number.isascii() and number.isdecimal() else 0
