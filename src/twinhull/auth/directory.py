"""What is known of a directory and its people: how it is reached, and what it says of somebody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from twinhull.config.values import Secret

_NO_SECRET: Final = Secret("")


@dataclass(frozen=True, slots=True, kw_only=True)
class LdapSettings:
    """How the directory is reached, and how people and groups are found in it."""

    url: str
    base_dn: str
    search_dn: str = ""
    search_password: Secret = _NO_SECRET
    filter: str = ""
    uid: str = "cn"
    scope: int = 2
    timeout_s: int = 5
    verify_cert: bool = True
    group_base_dn: str = ""
    group_filter: str = ""
    group_attribute_name: str = ""
    group_scope: int = 2
    group_admin_dn: str = ""
    membership_attribute: str = "memberof"


@dataclass(frozen=True, slots=True, kw_only=True)
class LdapGroup:
    """A group of the directory."""

    name: str
    dn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LdapUser:
    """Somebody of the directory."""

    name: str
    dn: str
    realname: str
    email: str
    groups: tuple[LdapGroup, ...] = ()
    is_admin: bool = False


class Directory(Protocol):
    """One directory. Every method raises Unavailable when it does not answer, Invalid when the settings can't be right."""

    def ping(self) -> None:
        """Return if it can be searched."""
        ...

    def users(self, name: str = "") -> list[LdapUser]:
        """Return the people of that name, without their groups; all of them, up to a limit, for an empty one."""
        ...

    def user(self, name: str) -> LdapUser | None:
        """Return the one who has that name, with their groups; None for nobody, and for more than one."""
        ...

    def sign_in(self, name: str, password: str) -> LdapUser | None:
        """Return the one who has that name and password, with their groups."""
        ...

    def groups(self, *, name: str = "", dn: str = "") -> list[LdapGroup]:
        """Return the group with that DN, or the groups whose name contains the text."""
        ...


Connect = Callable[[LdapSettings], Directory]
