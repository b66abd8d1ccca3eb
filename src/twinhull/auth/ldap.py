"""An LDAP directory or Active Directory: who its people are, whether a password is theirs, and what groups they are in.

Blocking, for threads; each call has a connection of its own. Knows nothing of what is stored here. Loading ldap3 takes
16 MB and more than half a second, so whoever uses this loads it when a directory is asked for the first time.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from ldap3 import BASE, LEVEL, NONE, SUBTREE, SYNC, Connection, Server, Tls
from ldap3.core.exceptions import LDAPException
from ldap3.utils.conv import escape_filter_chars

from twinhull.auth.directory import LdapGroup, LdapSettings, LdapUser
from twinhull.kit.errors import Invalid, Unavailable

# A search that finds more than this is none that anybody reads.
ENTRIES_MAX: Final = 500
_Scope = Literal["BASE", "LEVEL", "SUBTREE"]
_SCOPES: Final[Mapping[int, _Scope]] = {0: BASE, 1: LEVEL, 2: SUBTREE}
_PORTS: Final = {"ldap": 389, "ldaps": 636}
_MAIL: Final = ("mail", "email")
_NAMES: Final = ("displayname", "cn", "uid")
_ANY_GROUP: Final = "(objectClass=*)"
_DEFAULT_GROUP_NAME: Final = "cn"
_WAY_OUT: Final = "write ldap:// or ldaps://HOST[:PORT]"


class LdapDirectory:
    """Asks one directory. Every method raises Unavailable when it does not answer, Invalid when the settings can't be right."""

    def __init__(self, settings: LdapSettings) -> None:
        """Take how it is reached."""
        self._settings = settings
        self._server = _server(settings)

    def ping(self) -> None:
        """Return if the directory can be searched."""
        with self._searching() as connection:
            self._search(connection, self._settings.base_dn, "(objectClass=*)", BASE, [])

    def users(self, name: str = "") -> list[LdapUser]:
        """Return the people of that name, without their groups; all of them, up to a limit, for an empty one."""
        with self._searching() as connection:
            return [self._user(entry) for entry in self._entries_of(connection, name)]

    def user(self, name: str) -> LdapUser | None:
        """Return the one who has that name, with their groups; None for nobody, and for more than one."""
        with self._searching() as connection:
            entries = self._entries_of(connection, name)
            return self._with_groups(connection, entries[0]) if len(entries) == 1 else None

    def sign_in(self, name: str, password: str) -> LdapUser | None:
        """Return the one who has that name and password, with their groups."""
        # RFC 4513, 5.1.2: a bind without a password succeeds, and says nothing of who asks.
        if not password or "\x00" in password:
            return None
        with self._searching() as connection:
            entries = self._entries_of(connection, name)
            if len(entries) != 1 or not self._is_password(str(entries[0]["dn"]), password):
                return None
            return self._with_groups(connection, entries[0])

    def groups(self, *, name: str = "", dn: str = "") -> list[LdapGroup]:
        """Return the group with that DN, or the groups whose name contains the text."""
        with self._searching() as connection:
            if dn:
                found = self._group(connection, dn)
                return [found] if found is not None else []
            return self._groups_named(connection, name)

    # -- inside ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _searching(self) -> Iterator[Connection]:
        settings = self._settings
        connection = self._connection(settings.search_dn, settings.search_password.reveal())
        try:
            if not connection.bind():
                raise Unavailable("the directory refuses the search user", hint="check ldap_search_dn and ldap_search_password")
            yield connection
        except LDAPException as error:
            raise Unavailable(f"the directory at {settings.url} does not answer", hint="check ldap_url") from error
        finally:
            _close(connection)

    def _connection(self, user: str, password: str) -> Connection:
        try:
            return Connection(
                self._server,
                user=user or None,
                password=password or None,
                client_strategy=SYNC,
                receive_timeout=self._settings.timeout_s,
                auto_referrals=False,
                read_only=True,
                check_names=False,
            )
        except LDAPException as error:
            raise Invalid("the search user can't be right", hint="check ldap_search_dn") from error

    def _is_password(self, dn: str, password: str) -> bool:
        connection = self._connection(dn, password)
        try:
            return bool(connection.bind())
        finally:
            _close(connection)

    def _entries_of(self, connection: Connection, name: str) -> list[Mapping[str, Any]]:
        settings = self._settings
        wanted = f"({settings.uid}={escape_filter_chars(name) if name else '*'})"
        query = f"(&{_parenthesised(settings.filter)}{wanted})" if settings.filter.strip() else wanted
        attributes = [settings.uid, *_MAIL, *_NAMES, settings.membership_attribute]
        return self._search(connection, settings.base_dn, query, _SCOPES[settings.scope], attributes)

    def _search(
        self, connection: Connection, base: str, query: str, scope: _Scope, attributes: Sequence[str]
    ) -> list[Mapping[str, Any]]:
        try:
            connection.search(
                base, query, search_scope=scope, attributes=list(dict.fromkeys(attributes)), size_limit=ENTRIES_MAX
            )
        except LDAPException as error:
            if not connection.closed and connection.bound:
                raise Invalid(f"the directory can't be searched with {query[:200]}", hint="check the LDAP filters") from error
            raise
        return [entry for entry in connection.response or () if entry.get("type") == "searchResEntry"]

    def _user(self, entry: Mapping[str, Any]) -> LdapUser:
        values = _values_of(entry)
        name = _first(values, (self._settings.uid.lower(),))
        return LdapUser(name=name, dn=str(entry["dn"]), realname=_first(values, _NAMES) or name, email=_first(values, _MAIL))

    def _with_groups(self, connection: Connection, entry: Mapping[str, Any]) -> LdapUser:
        user, settings = self._user(entry), self._settings
        dns = _values_of(entry).get(settings.membership_attribute.lower(), [])
        groups: list[LdapGroup] = []
        if settings.group_base_dn:
            found = (self._group(connection, dn) for dn in dns[:ENTRIES_MAX])
            groups = [group for group in found if group is not None]
        is_admin = bool(settings.group_admin_dn) and _same_dn(settings.group_admin_dn) in {_same_dn(dn) for dn in dns}
        return LdapUser(
            name=user.name, dn=user.dn, realname=user.realname, email=user.email, groups=tuple(groups), is_admin=is_admin
        )

    def _group(self, connection: Connection, dn: str) -> LdapGroup | None:
        settings = self._settings
        if settings.group_base_dn and not _same_dn(dn).endswith(_same_dn(settings.group_base_dn)):
            return None
        query = _parenthesised(settings.group_filter) or _ANY_GROUP
        entries = self._search(connection, dn, query, BASE, [self._group_name])
        return self._group_of(entries[0]) if entries else None

    def _groups_named(self, connection: Connection, name: str) -> list[LdapGroup]:
        settings = self._settings
        wanted = f"({self._group_name}=*{escape_filter_chars(name)}*)" if name else f"({self._group_name}=*)"
        query = f"(&{_parenthesised(settings.group_filter) or _ANY_GROUP}{wanted})"
        base = settings.group_base_dn or settings.base_dn
        entries = self._search(connection, base, query, _SCOPES[settings.group_scope], [self._group_name])
        return [self._group_of(entry) for entry in entries]

    @property
    def _group_name(self) -> str:
        return self._settings.group_attribute_name or _DEFAULT_GROUP_NAME

    def _group_of(self, entry: Mapping[str, Any]) -> LdapGroup:
        dn = str(entry["dn"])
        return LdapGroup(name=_first(_values_of(entry), (self._group_name.lower(),)) or dn, dn=dn)


def _server(settings: LdapSettings) -> Server:
    text = settings.url if "://" in settings.url else f"ldap://{settings.url}"
    try:
        parts = urlsplit(text)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError) as error:
        raise Invalid(f"{settings.url[:200]!r} is no address of a directory", hint=_WAY_OUT) from error
    if not parts.hostname:
        raise Invalid(f"{settings.url[:200]!r} names no host", hint=_WAY_OUT)
    validate = ssl.CERT_REQUIRED if settings.verify_cert else ssl.CERT_NONE
    return Server(
        parts.hostname,
        port=port,
        use_ssl=parts.scheme == "ldaps",
        tls=Tls(validate=validate),
        get_info=NONE,
        connect_timeout=settings.timeout_s,
    )


def _close(connection: Connection) -> None:
    # What is gone already needs no goodbye.
    with suppress(LDAPException, OSError):
        connection.unbind()
    # A connection that could not be opened keeps its socket.
    if connection.socket is not None:
        connection.socket.close()


def _values_of(entry: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the entry's attributes by their names in small letters; a directory may write them as it likes."""
    found: dict[str, list[str]] = {}
    for name, value in (entry.get("attributes") or {}).items():
        values = value if isinstance(value, list | tuple) else [value]
        found[str(name).lower()] = [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in values]
    return found


def _first(values: Mapping[str, list[str]], names: Sequence[str]) -> str:
    return next((values[name][0] for name in names if values.get(name)), "")


def _parenthesised(query: str) -> str:
    stripped = query.strip()
    return stripped if not stripped or stripped.startswith("(") else f"({stripped})"


def _same_dn(dn: str) -> str:
    """Return a DN as it is compared: blanks around its parts and capitals do not matter."""
    return re.sub(r"\s*([,=])\s*", r"\1", dn.strip()).lower()
