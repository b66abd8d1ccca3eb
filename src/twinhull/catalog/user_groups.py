"""User groups: what may be written about them, and what goes with it in the same transaction."""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

from twinhull.catalog.accounts import Written
from twinhull.catalog.documents import Documents, create_document, existing_document, rename_document
from twinhull.kit.errors import Conflict, Invalid, NotFound
from twinhull.metadata.documents import Document, find_by_id
from twinhull.metadata.groups import find_group, find_group_by_dn, projects_of_group, users_of_group
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import MEMBER, USER, USER_GROUP, member_key

LDAP: Final = 1
HTTP: Final = 2
OIDC: Final = 3
TYPES: Final = (LDAP, HTTP, OIDC)
NAME_LENGTH_MAX: Final = 255
DN_LENGTH_MAX: Final = 512
_ILLEGAL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def require_group_name(name: str) -> str:
    """Return the name without blanks around it, or raise Invalid, in Harbor's words."""
    stripped = name.strip()
    if not stripped:
        raise Invalid("User group name can not be empty!")
    if len(stripped) > NAME_LENGTH_MAX or _ILLEGAL.search(stripped):
        raise Invalid("user group name is too long or contains illegal characters")
    return stripped


def require_dn(dn: str) -> str:
    """Return the distinguished name, or raise Invalid unless it looks like one."""
    stripped = dn.strip()
    parts = [part for part in re.split(r"(?<!\\),", stripped) if part]
    if not parts or len(stripped) > DN_LENGTH_MAX or _ILLEGAL.search(stripped) or not all("=" in part for part in parts):
        raise Invalid("Failed to parse LDAP DN")
    return stripped


def create_group(transaction: Transaction, name: str, group_type: int, dn: str = "") -> int:
    """Make a group and return its id, or raise Invalid, or Conflict for a name or an entry that is taken."""
    if group_type not in TYPES:
        raise Invalid(f"invalid user group type: {group_type}")
    name = require_group_name(name)
    dn = require_dn(dn) if group_type == LDAP else ""
    if find_group(transaction.connection, name) is not None:
        raise Conflict(f"duplicated user group name {name}")
    if find_group_by_dn(transaction.connection, dn) is not None:
        raise Conflict(f"duplicated user group dn {dn}")
    # What hung on this name in an earlier life must not come back with it.
    _delete_memberships(transaction, name)
    return create_document(transaction, USER_GROUP, {"group_type": group_type, "ldap_group_dn": dn or None}, name=name)


class GroupOf(NamedTuple):
    """A group as somebody names it who makes it a member: by its id, or by its name or entry in a directory."""

    id: int = 0
    name: str = ""
    group_type: int = 0
    dn: str = ""


def group_to_add(transaction: Transaction, wanted: GroupOf) -> str:
    """Return the name of the group that is meant, made if need be; raises NotFound, or what create_group raises."""
    connection = transaction.connection
    if wanted.id:
        return _existing(transaction, wanted.id).name
    found = find_group_by_dn(connection, wanted.dn) if wanted.dn else find_group(connection, wanted.name.strip())
    if found is not None:
        return found.name
    if wanted.dn or wanted.group_type not in (HTTP, OIDC):
        raise NotFound(f"user group {wanted.dn or wanted.name} not found")
    create_group(transaction, wanted.name, wanted.group_type)
    return wanted.name.strip()


def rename_group(transaction: Transaction, number: int, name: str) -> int:
    """Give a group another name, with its memberships and members; raises Invalid, NotFound or Conflict."""
    name = require_group_name(name)
    group = _existing(transaction, number)
    if name == group.name:
        return group.id
    if find_group(transaction.connection, name) is not None:
        raise Conflict(f"duplicated user group name {name}")
    _delete_memberships(transaction, name)
    for project in projects_of_group(transaction.connection, group.name):
        # With their ids, and the lives of project and group that they are of.
        fields = transaction.values(MEMBER, member_key(project, "g", group.name)) or {}
        transaction.delete(MEMBER, member_key(project, "g", group.name))
        transaction.create(MEMBER, member_key(project, "g", name), fields)
    for user in users_of_group(transaction.connection, json.dumps(group.name, ensure_ascii=False)):
        groups = (transaction.values(USER, user) or {}).get("groups")
        if isinstance(groups, list) and group.name in groups:
            renamed = sorted({name if one == group.name else str(one) for one in groups})
            transaction.put(USER, user, {"groups": renamed})
    return rename_document(transaction, USER_GROUP, group.id, name)


def delete_group(transaction: Transaction, number: int) -> int:
    """Delete a group with its memberships; deleting one that is not there does nothing, as in Harbor."""
    group = find_by_id(transaction.connection, USER_GROUP, number)
    if group is not None:
        _delete_memberships(transaction, group.name)
        transaction.delete(USER_GROUP, group.key)
    return number


def _existing(transaction: Transaction, number: int) -> Document:
    try:
        return existing_document(transaction, USER_GROUP, number)
    except NotFound as error:
        raise NotFound(f"user group {number} not found") from error


def _delete_memberships(transaction: Transaction, name: str) -> None:
    for project in projects_of_group(transaction.connection, name):
        transaction.delete(MEMBER, member_key(project, "g", name))


class UserGroups:
    """Makes, renames and deletes user groups."""

    def __init__(self, documents: Documents) -> None:
        """Take what writes documents."""
        self._documents = documents

    async def create(self, name: str, group_type: int, dn: str = "") -> Written:
        """Make a group; raises what create_group raises."""
        return await self._documents.write(lambda inside: create_group(inside, name, group_type, dn))

    async def rename(self, number: int, name: str) -> Written:
        """Give a group another name; raises what rename_group raises."""
        return await self._documents.write(lambda inside: rename_group(inside, number, name))

    async def delete(self, number: int) -> Written:
        """Delete a group, if it is there."""
        return await self._documents.write(lambda inside: delete_group(inside, number))
