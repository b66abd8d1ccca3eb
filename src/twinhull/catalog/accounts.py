"""Users: what may be written about them, and what goes with it in the same transaction."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from twinhull.auth.passwords import PasswordChecker, require_strong, verify
from twinhull.catalog.audit import note
from twinhull.kit.errors import Conflict, Denied, Invalid, UserUnknown
from twinhull.metadata import accounts as queries
from twinhull.metadata.accounts import User
from twinhull.metadata.filtering import NUL
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import MEMBER, USER
from twinhull.records.merge import Value

ADMIN: Final = "admin"
ADMIN_ID: Final = 1

NAME_LENGTH_MAX: Final = 255
COMMENT_LENGTH_MAX: Final = 30
# Harbor's list. A colon would end the name in Basic credentials, a line break would begin a header of its own.
_ILLEGAL: Final = re.compile(r"[,~#$%:\x00-\x1f\x7f\ud800-\udfff]")
_LOCAL_PART: Final = re.compile(r"[^<>()\[\]\\.,;:\s@\"\x00-\x1f\x7f\ud800-\udfff]+")
_DOMAIN_LABEL: Final = re.compile(r"[a-zA-Z0-9-]+")
_TOP_LABEL: Final = re.compile(r"[a-zA-Z]{2,}")

_Result = TypeVar("_Result")


class Written(NamedTuple):
    """What a write made: the id of the thing, and this node's change number (0: nothing was to be changed)."""

    id: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A user to be made."""

    name: str
    email: str
    realname: str
    password: str = field(repr=False)
    comment: str = ""


def profile_problem(*, email: str, realname: str, comment: str) -> str | None:
    """Return what is wrong with a profile, in Harbor's words, or None."""
    if not email:
        return "Email can't be empty"
    if not is_email(email):
        return "email with illegal format"
    if not 1 <= len(realname) <= NAME_LENGTH_MAX:
        return "realname with illegal length"
    if _ILLEGAL.search(realname):
        return "realname contains illegal characters"
    return "comment with illegal length" if len(comment) > COMMENT_LENGTH_MAX or NUL in comment else None


def name_problem(name: str) -> str | None:
    """Return what is wrong with a user's name, in Harbor's words, or None."""
    if not 1 <= len(name) <= NAME_LENGTH_MAX:
        return "username with illegal length"
    if _ILLEGAL.search(name) or name != name.strip():
        return "username contains illegal characters"
    return None


def is_email(text: str) -> bool:
    """Tell whether that is an address as Harbor takes it: dotted words, an at sign, a host name with a dot."""
    local, _, host = text.rpartition("@")
    *labels, top = host.split(".")
    return (
        len(text) <= NAME_LENGTH_MAX
        and bool(labels)
        and all(_LOCAL_PART.fullmatch(word) for word in local.split("."))
        and all(_DOMAIN_LABEL.fullmatch(label) for label in labels)
        and _TOP_LABEL.fullmatch(top) is not None
    )


def changed_only(before: Mapping[str, Value], wanted: Mapping[str, Value]) -> dict[str, Value]:
    """Return those fields that would change.

    A field that is written anew although nothing changed would win over what another node did to it at the same time.
    """
    return {name: value for name, value in wanted.items() if before.get(name) != value}


class Users:
    """Makes, changes and deletes users."""

    def __init__(self, *, store: Store, executor: Executor, passwords: PasswordChecker) -> None:
        """Take the metadata, threads to write in, and what hashes passwords."""
        self._store = store
        self._executor = executor
        self._passwords = passwords

    async def create(self, new: NewUser) -> Written:
        """Make a user, or raise Invalid, or Conflict for a name or address that is taken."""
        problem = name_problem(new.name) or profile_problem(email=new.email, realname=new.realname, comment=new.comment)
        if problem is not None:
            raise Invalid(f"register error:{problem}")
        require_strong(new.password, "register error:the password or secret")
        hashed = await self._passwords.hash(new.password)

        def change(transaction: Transaction) -> int:
            number = _create(transaction, new, hashed)
            note(transaction, "create", "user", new.name)
            return number

        return await self._write(change)

    async def change_profile(self, number: int, *, email: str, realname: str, comment: str) -> Written:
        """Change who that is to people, or raise UserUnknown, Invalid, or Conflict for an address that is taken."""
        problem = profile_problem(email=email, realname=realname, comment=comment)
        if problem is not None:
            raise Invalid(f"change user profile error:{problem}")

        def change(transaction: Transaction) -> int:
            user = _existing(transaction, number)
            _require_free_address(transaction, email, user.name)
            before = {"email": user.email, "realname": user.realname, "comment": user.comment}
            changed = changed_only(before, {"email": email, "realname": realname, "comment": comment})
            if changed:
                transaction.put(USER, user.name, {**changed, "updated_ms": transaction.now_ms()})
                note(transaction, "update", "user", user.name)
            return user.id

        return await self._write(change)

    async def set_sysadmin(self, number: int, *, sysadmin: bool) -> Written:
        """Make somebody a system administrator or no more; raises UserUnknown, or Denied for the built-in one."""

        def change(transaction: Transaction) -> int:
            user = _existing(transaction, number)
            if user.name == ADMIN and not sysadmin:
                raise Denied("the built-in administrator can not be stripped of the administrator role")
            # Written even where it says the same: taking it must hold against somebody who grants it elsewhere right now.
            transaction.put(USER, user.name, {"sysadmin": sysadmin, "updated_ms": transaction.now_ms()})
            role = "administrator" if sysadmin else "no administrator any more"
            note(transaction, "update", "user", user.name, description=f"update user: {user.name} is {role}")
            return user.id

        return await self._write(change)

    async def set_password(self, number: int, password: str) -> Written:
        """Give somebody another password; raises UserUnknown, or Invalid for a weak one or the one there is."""
        require_strong(password, "the password or secret")
        user = await self._find(number)
        if await self._in_thread(lambda: verify(password, user.password_hash)):
            raise Invalid("the new password can not be same with the old one")
        hashed = await self._passwords.hash(password)

        def change(transaction: Transaction) -> int:
            name = _existing(transaction, number).name
            transaction.put(USER, name, {"password_hash": hashed, "updated_ms": transaction.now_ms()})
            note(transaction, "update", "user", name, description=f"update user: {name} has another password")
            return number

        return await self._write(change)

    async def delete(self, number: int, *, by: int) -> Written:
        """Delete somebody with all memberships; raises UserUnknown, or Denied for the built-in administrator and oneself."""

        def change(transaction: Transaction) -> int:
            user = _existing(transaction, number)
            if user.name == ADMIN or by == user.id:
                # In Harbor's words; there is no other authentication here yet.
                raise Denied(f"User with ID: {number} cannot be removed, auth mode: db_auth, current user ID: {by}")
            delete_memberships(transaction, user.name)
            transaction.delete(USER, user.name)
            note(transaction, "delete", "user", user.name)
            return user.id

        return await self._write(change)

    async def _find(self, number: int) -> User:
        def find() -> User | None:
            with self._store.read() as connection:
                return queries.find_user_by_id(connection, number)

        user = await self._in_thread(find)
        if user is None:
            raise UserUnknown(f"user {number} not found")
        return user

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def _write(self, change: Callable[[Transaction], int]) -> Written:
        return await self._in_thread(lambda: written(self._store, change))


def written(store: Store, change: Callable[[Transaction], int]) -> Written:
    """Make a change that returns an id in a transaction of its own."""
    with store.write() as transaction:
        number = change(transaction)
    return Written(number, transaction.seq)


def _existing(transaction: Transaction, number: int) -> User:
    user = queries.find_user_by_id(transaction.connection, number)
    if user is None:
        raise UserUnknown(f"user {number} not found")
    return user


def _require_free_address(transaction: Transaction, email: str, name: str) -> None:
    holder = queries.find_user_by_email(transaction.connection, email)
    if holder is not None and holder.name != name:
        raise Conflict("email has already been used")


def _create(transaction: Transaction, new: NewUser, hashed: str) -> int:
    if queries.find_user(transaction.connection, new.name) is not None:
        raise Conflict("username has already been used")
    _require_free_address(transaction, new.email, new.name)
    return _insert(transaction, new, hashed, sysadmin=False)


def _insert(transaction: Transaction, new: NewUser, hashed: str, *, sysadmin: bool) -> int:
    # What hung on this name in an earlier life must not come back with it.
    delete_memberships(transaction, new.name)
    number = transaction.next_id(USER)
    now_ms = transaction.now_ms()
    fields: dict[str, Value] = {
        "email": new.email,
        "realname": new.realname,
        "comment": new.comment,
        "password_hash": hashed,
        "sysadmin": sysadmin,
        "disabled": False,
        "created_ms": now_ms,
        "updated_ms": now_ms,
    }
    transaction.create(USER, new.name, fields, number=number)
    return number


def delete_memberships(transaction: Transaction, user: str) -> None:
    """Delete whatever makes that name a member of anything, hidden memberships too."""
    for key in queries.member_keys(transaction.connection, user=user):
        transaction.delete(MEMBER, key)


def create_admin(transaction: Transaction, password_hash: str) -> int:
    """Make the built-in administrator of a new cluster; the first user there is, so with id 1."""
    admin = NewUser(name=ADMIN, email="", realname="system admin", comment="admin user", password="")
    return _insert(transaction, admin, password_hash, sysadmin=True)


def reset_admin_password(transaction: Transaction, password_hash: str) -> None:
    """Give the built-in administrator another password, and the role back in case an older release let go of it."""
    now_ms = transaction.now_ms()
    transaction.put(USER, ADMIN, {"password_hash": password_hash, "sysadmin": True, "updated_ms": now_ms})
