"""Who is asking, and what may they do here and now: from caches that the log keeps right.

A token or a password says who it is. Their rights are looked up in what this process has cached of users, robots, projects and
members; before each look the caches are brought up to the log, so a revocation holds at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, Protocol, TypeVar

from joserfc.jwk import OKPKey
from sqlalchemy import Connection

from twinhull.auth.caches import AccountCaches, keep
from twinhull.auth.passwords import UNKNOWN_ROBOT, PasswordChecker
from twinhull.auth.permissions import NOTHING, Allowance, allow_robot, allow_user
from twinhull.auth.subjects import ProjectFacts, Subject, read_facts, read_role, read_subject, record_of, visible_to
from twinhull.auth.tokens import VerifiedToken, public_keys
from twinhull.config.cluster import DEFAULTS
from twinhull.kit.clock import Clock
from twinhull.metadata import accounts
from twinhull.metadata.store import Store
from twinhull.records.kinds import member_key

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


class PeersToAsk(Protocol):
    """The other masters; catalog.peers.Peers is one."""

    def is_behind(self) -> bool:
        """Tell, at no cost, whether a peer may have taken rights away that this node has not seen."""
        ...

    async def find(self, kind: str, key: str) -> bool:
        """Ask them for a newer version of a record, and return True once it is applied here."""
        ...

    async def settle(self) -> None:
        """Wait, for a short limit, until this node is not behind: for lists, which no question about one record settles."""
        ...


class NobodyToAsk:
    """The peers of a node that is alone."""

    def is_behind(self) -> bool:
        """Return False."""
        return False

    async def find(self, _kind: str, _key: str) -> bool:
        """Return False."""
        return False

    async def settle(self) -> None:
        """Return at once."""


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
        peers: PeersToAsk | None = None,
    ) -> None:
        """Take the metadata and threads to read it in, what tells of changes, the clock, who checks passwords, the peers."""
        self._store = store
        self._executor = executor
        self._log = log
        self._clock = clock
        self._passwords = passwords
        self._peers = peers or NobodyToAsk()
        self._caches = AccountCaches()
        self._vouching: Vouching | None = None
        log.listen(self._caches.on_change, self._caches.on_reset)

    # -- keeping right ---------------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Bring the caches up to the log; costs one comparison when nothing happened."""
        if not self._log.is_current():
            await self._log.catch_up()
        while self._caches.keys is None:
            generation = self._caches.generation
            keys = await self._load(lambda connection: public_keys(accounts.list_token_keys(connection)))
            if generation == self._caches.generation:
                self._caches.keys = keys

    def on_keys_changed(self, forget: Callable[[], None]) -> None:
        """Have `forget` called when a node came, went, or changed its key."""
        self._caches.on_keys_changed(forget)

    def key_of(self, kid: str) -> OKPKey | None:
        """Return a node's public key by its id; after `refresh`."""
        return (self._caches.keys or {}).get(kid)

    async def _load(self, query: Callable[[Connection], _Loaded]) -> _Loaded:
        def run() -> _Loaded:
            with self._store.read() as connection:
                return query(connection)

        return await asyncio.get_running_loop().run_in_executor(self._executor, run)

    # -- settings --------------------------------------------------------------------------------------------------

    async def setting(self, name: str) -> object:
        """Return a cluster-wide setting, or its default."""
        await self.refresh()
        if name in self._caches.settings:
            return self._caches.settings[name]
        generation = self._caches.generation
        value = await self._load(lambda connection: accounts.find_setting(connection, name))
        value = DEFAULTS.get(name) if value is None else value
        if generation == self._caches.generation:
            keep(self._caches.settings, name, value)
        return value

    # -- who -------------------------------------------------------------------------------------------------------

    async def catch_up_on(self, *records: tuple[str, str]) -> bool:
        """Have what the peers know of these records, if this node may lack any of it; tell whether they were asked.

        A node that was away answers before it has all that happened meanwhile, and what happened may be a revocation.
        """
        if not self._peers.is_behind():
            return False
        if any(await asyncio.gather(*(self._peers.find(kind, key) for kind, key in records))):
            await self.refresh()
        return True

    def known_subject(self, name: str) -> Subject | None:
        """Return a subject that is cached and in force, at the cost of a look-up; None says that `subject` must be asked."""
        if self._peers.is_behind():
            return None
        found = self._caches.subjects.get(name)
        return found if found is not None and self._is_in_force(found) else None

    async def subject(self, name: str) -> Subject | None:
        """Return the user or robot of that name if there is one that is in force: neither disabled nor expired."""
        await self.refresh()
        prefix = str(await self.setting("robot_name_prefix"))
        asked = await self.catch_up_on(record_of(name, prefix))
        known = name in self._caches.subjects
        found = self._caches.subjects[name] if known else await self._load_subject(name, prefix, ask=not asked)
        return found if found is not None and self._is_in_force(found) else None

    async def _load_subject(self, name: str, prefix: str, *, ask: bool) -> Subject | None:
        kind, key = record_of(name, prefix)
        generation = self._caches.generation
        found = await self._load(lambda connection: read_subject(connection, name, prefix))
        if found is None and ask and await self._peers.find(kind, key):
            await self.refresh()
            generation = self._caches.generation
            found = await self._load(lambda connection: read_subject(connection, name, prefix))
        # A robot that is not there may come back with its project, of which no change tells.
        if generation == self._caches.generation and (found is not None or kind == "user"):
            keep(self._caches.subjects, name, found)
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
        return None if self._peers.is_behind() else self._cached_allowance(subject, project)

    def _cached_allowance(self, subject: Subject | None, project: str) -> Allowance | None:
        facts = self._caches.projects.get(project)
        if facts is None:
            return None
        if subject is not None and not (subject.is_robot or subject.is_admin) and subject.name not in facts.roles:
            return None
        return _decide(subject, project, facts)

    async def allowance(self, subject: Subject | None, project: str) -> Allowance:
        """Return what somebody (None: anonymous) may do in a project, whether it exists or not."""
        await self.refresh()
        user = subject if subject is not None and not subject.is_robot else None
        asked = await self.catch_up_on(*_records_of_rights(project, user))
        known = self._cached_allowance(subject, project)
        if known is not None:
            return known
        return _decide(subject, project, await self._load_project(project, user, ask=not asked))

    async def facts_of(self, project: str) -> ProjectFacts:
        """Return whether there is such a project, and what is set for it; costs nothing as a rule."""
        await self.refresh()
        return self._caches.projects.get(project) or await self._load_project(project, None, ask=True)

    async def _load_project(self, project: str, user: Subject | None, *, ask: bool) -> ProjectFacts:
        generation = self._caches.generation
        found = await self._load(lambda connection: _read_project(connection, project, user))
        if not found.exists and ask and await self._peers.find("project", project):
            await self.refresh()
            generation = self._caches.generation
            found = await self._load(lambda connection: _read_project(connection, project, user))
        if generation == self._caches.generation:
            cached = self._caches.projects.get(project)
            if cached is None:
                keep(self._caches.projects, project, found)
            else:
                for name, role in found.roles.items():
                    keep(cached.roles, name, role)
        return found

    async def visible_projects(self, subject: Subject | None) -> frozenset[str] | None:
        """Return the names of the projects whose repositories somebody may list; None for all of them."""
        await self.refresh()
        wanted = visible_to(subject)
        if not wanted.visible_only:
            return None
        await self._peers.settle()
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
    if not vouched:
        # Remembered: no longer than from the last time that the directory was asked.
        return known
    # The directory may write the name otherwise.
    current = await guard.subject(vouched[0])
    if current is not None:
        passwords.remember(name, password, current.stored)
    return current


def _records_of_rights(project: str, user: Subject | None) -> list[tuple[str, str]]:
    """Return the kinds and keys of the records that say what somebody may do in a project."""
    if user is None:
        return [("project", project)]
    members = [member_key(project, "u", user.name), *(member_key(project, "g", group) for group in user.groups)]
    return [("project", project), *(("member", key) for key in members)]


def _read_project(connection: Connection, project: str, user: Subject | None) -> ProjectFacts:
    facts = read_facts(connection, project)
    if user is not None:
        facts.roles[user.name] = read_role(connection, project, user) if facts.exists else None
    return facts


def _decide(subject: Subject | None, project: str, facts: ProjectFacts) -> Allowance:
    if subject is None:
        return allow_user(is_admin=False, role=None, is_public=facts.public)
    if not subject.is_robot:
        role = facts.roles.get(subject.name)
        return allow_user(is_admin=subject.is_admin, role=role, is_public=facts.public, exists=facts.exists)
    if not facts.exists:
        return NOTHING
    known = facts.robots.get(subject)
    if known is None:
        if len(facts.robots) >= _ROBOTS_PER_PROJECT_MAX:
            facts.robots.clear()
        known = allow_robot(subject.permissions, project=project, is_public=facts.public)
        facts.robots[subject] = known
    return known
