"""Who is asking, and what may they do here and now: from caches that the log keeps right.

A token or a password says who it is. Their rights are looked up in what this process has cached of users, robots, projects and
members; before each look the caches are brought up to the log, so a revocation holds at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from typing import Any, Final, Protocol, TypeVar

from joserfc.jwk import OKPKey
from sqlalchemy import Connection

from twinhull.auth.passwords import UNKNOWN_ROBOT, PasswordChecker
from twinhull.auth.permissions import NOTHING, Allowance, allow_robot, allow_user
from twinhull.auth.subjects import ProjectFacts, Subject, read_facts, read_role, read_subject, record_of, visible_to
from twinhull.auth.tokens import VerifiedToken, public_keys
from twinhull.config.cluster import DEFAULTS
from twinhull.kit.clock import Clock
from twinhull.kit.reference import project_of
from twinhull.metadata import accounts
from twinhull.metadata.store import Store

# Each of the caches holds at most this many; when full it starts anew, which costs one query an entry.
ENTRIES_MAX: Final = 20_000
# Signs in with a password of the cluster's own, however others do.
_BUILT_IN: Final = "admin"
_ROBOTS_PER_PROJECT_MAX: Final = 500

_Loaded = TypeVar("_Loaded")


class LogWatch(Protocol):
    """What tells of changes in the log; metadata.freshness.Freshness is one."""

    def listen(self, on_change: Callable[[str, str], None], on_reset: Callable[[], None]) -> None:
        """Call back for each change, or once for too many."""
        ...

    def is_current(self) -> bool:
        """Tell, at no cost, whether nothing changed since the last look."""
        ...

    async def catch_up(self) -> None:
        """Return when all that was committed before this call has been called back."""
        ...


class Vouching(Protocol):
    """What knows people's passwords in place of this cluster; catalog.sign_in.SignIn is one."""

    async def is_by_directory(self) -> bool:
        """Tell whether the settings say so."""
        ...

    async def by_directory(self, name: str, password: str) -> str | None:
        """Return the name here of the one with that name and password, once it is written down here."""
        ...


AskPeers = Callable[[str, str], Awaitable[bool]]


async def ask_nobody(_kind: str, _key: str) -> bool:
    """Stand in for the peers of a node that is alone."""
    return False


class Guard:
    """Answers who somebody is and what they may do. Used on one event loop."""

    def __init__(
        self,
        *,
        store: Store,
        executor: Executor,
        log: LogWatch,
        clock: Clock,
        passwords: PasswordChecker,
        ask_peers: AskPeers = ask_nobody,
    ) -> None:
        """Take the metadata and threads to read it in, what tells of changes, the clock, and the checker of passwords."""
        self._store = store
        self._executor = executor
        self._log = log
        self._clock = clock
        self._passwords = passwords
        self._ask_peers = ask_peers
        self._subjects: dict[str, Subject | None] = {}
        self._projects: dict[str, ProjectFacts] = {}
        self._settings: dict[str, object] = {}
        self._keys: dict[str, OKPKey] | None = None
        # Counts what was called back: an answer that was read from the database before a change must not be kept after it.
        self._generation = 0
        self._on_keys_changed: list[Callable[[], None]] = []
        self._vouching: Vouching | None = None
        self._forgetters: dict[str, Callable[[str], None]] = {
            "user": self._forget_user,
            "user_group": self._forget_group,
            "robot": self._forget_robot,
            "project": self._forget_project,
            "member": self._forget_member,
            "manifest": self._forget_if_revived,
            "setting": self._forget_settings,
            "node": self._forget_node,
        }
        log.listen(self._on_change, self._on_reset)

    # -- keeping right ---------------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Bring the caches up to the log; costs one comparison when nothing happened."""
        if not self._log.is_current():
            await self._log.catch_up()
        while self._keys is None:
            generation = self._generation
            keys = await self._load(lambda connection: public_keys(accounts.list_token_keys(connection)))
            if generation == self._generation:
                self._keys = keys

    def on_keys_changed(self, forget: Callable[[], None]) -> None:
        """Have `forget` called when a node came, went, or changed its key."""
        self._on_keys_changed.append(forget)

    def key_of(self, kid: str) -> OKPKey | None:
        """Return a node's public key by its id; after `refresh`."""
        return (self._keys or {}).get(kid)

    def _on_change(self, kind: str, key: str) -> None:
        forget = self._forgetters.get(kind)
        if forget is not None:
            forget(key)

    def _forget_user(self, name: str) -> None:
        self._generation += 1
        self._subjects.pop(name, None)
        # They may have come into a group, or out of one.
        for facts in self._projects.values():
            facts.roles.pop(name, None)

    def _forget_group(self, _key: str) -> None:
        self._generation += 1
        self._projects.clear()

    def _forget_robot(self, key: str) -> None:
        self._generation += 1
        # They are cached by what people call them, and the prefix may have changed since.
        for name in [name for name in self._subjects if name.endswith(key)]:
            del self._subjects[name]

    def _forget_project(self, name: str) -> None:
        self._generation += 1
        self._projects.pop(name, None)
        # Its robots live and die with it.
        for robot in [robot for robot in self._subjects if f"{name}+" in robot]:
            del self._subjects[robot]

    def _forget_member(self, key: str) -> None:
        self._generation += 1
        self._projects.pop(project_of(key), None)

    def _forget_if_revived(self, key: str) -> None:
        project = project_of(key)
        facts = self._projects.get(project)
        if facts is None or (facts.exists and not facts.revived):
            return
        self._forget_project(project)

    def _forget_settings(self, _name: str) -> None:
        self._generation += 1
        self._settings.clear()
        self._subjects.clear()

    def _forget_node(self, _node: str) -> None:
        self._generation += 1
        self._forget_keys()

    def _on_reset(self) -> None:
        self._generation += 1
        self._subjects.clear()
        self._projects.clear()
        self._settings.clear()
        self._forget_keys()

    def _forget_keys(self) -> None:
        self._keys = None
        for forget in self._on_keys_changed:
            forget()

    async def _load(self, query: Callable[[Connection], _Loaded]) -> _Loaded:
        def run() -> _Loaded:
            with self._store.read() as connection:
                return query(connection)

        return await asyncio.get_running_loop().run_in_executor(self._executor, run)

    # -- settings --------------------------------------------------------------------------------------------------

    async def setting(self, name: str) -> object:
        """Return a cluster-wide setting, or its default."""
        await self.refresh()
        if name in self._settings:
            return self._settings[name]
        generation = self._generation
        value = await self._load(lambda connection: accounts.find_setting(connection, name))
        value = DEFAULTS.get(name) if value is None else value
        if generation == self._generation:
            _keep(self._settings, name, value)
        return value

    # -- who -------------------------------------------------------------------------------------------------------

    def known_subject(self, name: str) -> Subject | None:
        """Return a subject that is cached and in force, at the cost of a look-up; None says that `subject` must be asked."""
        found = self._subjects.get(name)
        return found if found is not None and self._is_in_force(found) else None

    async def subject(self, name: str) -> Subject | None:
        """Return the user or robot of that name if there is one that is in force: neither disabled nor expired."""
        await self.refresh()
        found = self._subjects[name] if name in self._subjects else await self._load_subject(name)
        return found if found is not None and self._is_in_force(found) else None

    async def _load_subject(self, name: str) -> Subject | None:
        prefix = str(await self.setting("robot_name_prefix"))
        kind, key = record_of(name, prefix)
        generation = self._generation
        found = await self._load(lambda connection: read_subject(connection, name, prefix))
        if found is None and await self._ask_peers(kind, key):
            await self.refresh()
            generation = self._generation
            found = await self._load(lambda connection: read_subject(connection, name, prefix))
        # A robot that is not there may come back with its project, of which no change tells.
        if generation == self._generation and (found is not None or kind == "user"):
            _keep(self._subjects, name, found)
        return found

    def _is_in_force(self, subject: Subject) -> bool:
        return subject.expires_at_s < 0 or self._clock.unix_ms() < subject.expires_at_s * 1000

    async def by_password(self, name: str, password: str, *, address: str) -> Subject | None:
        """Return who that is, None when the password is wrong; raises LoginSlowedDown after too many wrong ones."""
        vouching = self._vouching
        prefix = str(await self.setting("robot_name_prefix"))
        is_person = record_of(name, prefix)[0] == "user" and name != _BUILT_IN
        if vouching is not None and is_person and await vouching.is_by_directory():
            return await _by_directory(self, self._passwords, vouching, name, password, address=address)
        found = await self.subject(name)
        # Whether an account is there must not show in the time that a wrong password takes.
        is_robot = record_of(name, prefix)[0] == "robot"
        stored = found.stored if found is not None else UNKNOWN_ROBOT if is_robot else None
        if not await self._passwords.is_right(name, password, stored, address=address) or found is None:
            return None
        # A slow hash took its time: whoever was deleted or given another password meanwhile is not let in.
        current = await self.subject(name)
        return current if current is not None and current.stored == found.stored else None

    def vouched_by(self, vouching: Vouching) -> None:
        """Ask this about people's passwords while the settings say so."""
        self._vouching = vouching

    async def by_token(self, token: VerifiedToken) -> Subject | None:
        """Return who the token was issued to, None if the account or its password is not what it was then."""
        found = await self.subject(token.subject)
        return found if found is not None and found.credential == token.credential else None

    # -- what ------------------------------------------------------------------------------------------------------

    def known_allowance(self, subject: Subject | None, project: str) -> Allowance | None:
        """Return what somebody may do in a project if that is cached; None says that `allowance` must be asked."""
        facts = self._projects.get(project)
        if facts is None:
            return None
        if subject is not None and not (subject.is_robot or subject.is_admin) and subject.name not in facts.roles:
            return None
        return _decide(subject, project, facts)

    async def allowance(self, subject: Subject | None, project: str) -> Allowance:
        """Return what somebody (None: anonymous) may do in a project, whether it exists or not."""
        await self.refresh()
        known = self.known_allowance(subject, project)
        if known is not None:
            return known
        user = subject if subject is not None and not subject.is_robot else None
        return _decide(subject, project, await self._load_project(project, user))

    async def facts_of(self, project: str) -> ProjectFacts:
        """Return whether there is such a project, and what is set for it; costs nothing as a rule."""
        await self.refresh()
        return self._projects.get(project) or await self._load_project(project, None)

    async def _load_project(self, project: str, user: Subject | None) -> ProjectFacts:
        generation = self._generation
        found = await self._load(lambda connection: _read_project(connection, project, user))
        if not found.exists and await self._ask_peers("project", project):
            await self.refresh()
            generation = self._generation
            found = await self._load(lambda connection: _read_project(connection, project, user))
        if generation == self._generation:
            cached = self._projects.get(project)
            if cached is None:
                _keep(self._projects, project, found)
            else:
                for name, role in found.roles.items():
                    _keep(cached.roles, name, role)
        return found

    async def visible_projects(self, subject: Subject | None) -> frozenset[str] | None:
        """Return the names of the projects whose repositories somebody may list; None for all of them."""
        await self.refresh()
        wanted = visible_to(subject)
        if not wanted.visible_only:
            return None
        return await self._load(
            lambda connection: frozenset(project.name for project in accounts.list_projects(connection, wanted)[0])
        )


async def _by_directory(
    guard: Guard, passwords: PasswordChecker, vouching: Vouching, name: str, password: str, *, address: str
) -> Subject | None:
    known = await guard.subject(name)
    vouched: list[str] = []

    async def ask() -> bool:
        vouched.append(await vouching.by_directory(name, password) or "")
        return bool(vouched[0])

    stored = known.stored if known is not None else None
    if not await passwords.is_vouched_for(name, password, stored, address=address, ask=ask):
        return None
    # The directory may write the name otherwise.
    current = await guard.subject(vouched[0] if vouched else name)
    if current is not None:
        passwords.remember(name, password, current.stored)
    return current


def _read_project(connection: Connection, project: str, user: Subject | None) -> ProjectFacts:
    facts = read_facts(connection, project)
    if user is not None:
        facts.roles[user.name] = read_role(connection, project, user) if facts.exists else None
    return facts


def _decide(subject: Subject | None, project: str, facts: ProjectFacts) -> Allowance:
    if subject is None:
        return allow_user(is_admin=False, role=None, is_public=facts.public)
    if not subject.is_robot:
        return allow_user(is_admin=subject.is_admin, role=facts.roles.get(subject.name), is_public=facts.public)
    if not facts.exists:
        return NOTHING
    known = facts.robots.get(subject)
    if known is None:
        if len(facts.robots) >= _ROBOTS_PER_PROJECT_MAX:
            facts.robots.clear()
        known = allow_robot(subject.permissions, project=project, is_public=facts.public)
        facts.robots[subject] = known
    return known


def _keep(cache: MutableMapping[str, Any], name: str, value: object) -> None:
    if len(cache) >= ENTRIES_MAX:
        cache.clear()
    cache[name] = value
