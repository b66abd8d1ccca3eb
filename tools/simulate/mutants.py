"""The program with one thing wrong in it: the simulation has to find out, or it is worth nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select

from twinhull.auth.caches import AccountCaches
from twinhull.catalog.artifacts import ManifestCache
from twinhull.metadata import compaction
from twinhull.metadata import transaction as transactions
from twinhull.metadata.projections.project import project_record
from twinhull.metadata.store import Store
from twinhull.metadata.tables.own import origins
from twinhull.metadata.transaction import Transaction
from twinhull.records.change import Change, VersionVector
from twinhull.records.kinds import MEMBER, NODE, USER
from twinhull.records.merge import Kind, Record, latest, merge
from twinhull.replication.acknowledgements import Acknowledgements
from twinhull.replication.backlog import Backlog
from twinhull.replication.engine import Engine
from twinhull.replication.feed import Feed
from twinhull.replication.page import SyncPage
from twinhull.replication.transfers import Transfers

Mutation = Callable[[ExitStack], None]


@contextmanager
def _set(owner: Any, name: str, value: object) -> Iterator[None]:  # noqa: ANN401 - a class or a module
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _rules(kind: Kind, name: str, value: object) -> Iterator[None]:
    before = getattr(kind, name)
    msgspec.structs.force_setattr(kind, name, value)
    try:
        yield
    finally:
        msgspec.structs.force_setattr(kind, name, before)


def _keep_seen_versions(stack: ExitStack) -> None:
    def keep(ours: Record, theirs: Record) -> Record:
        versions = {version.write.dot: version for version in (*ours.versions, *theirs.versions)}
        return Record(versions=tuple(versions[dot] for dot in sorted(versions)), context=merge(ours, theirs).context)

    stack.enter_context(_set(transactions, "merge", keep))


def _keep_latest_version_only(stack: ExitStack) -> None:
    def keep(ours: Record, theirs: Record) -> Record:
        merged = merge(ours, theirs)
        return Record(versions=(max(merged.versions, key=lambda version: version.write.stamp),), context=merged.context)

    stack.enter_context(_set(transactions, "merge", keep))


def _count_sent_as_applied(stack: ExitStack) -> None:
    send = Feed._send_changes  # noqa: SLF001 - a mutant reaches inside

    async def count(self: Feed) -> VersionVector:
        vector = await send(self)
        self._acknowledgements.acknowledged(self.peer, vector, [], 0)
        return vector

    stack.enter_context(_set(Feed, "_send_changes", count))


def _always_be_sure(stack: ExitStack) -> None:
    stack.enter_context(_set(SyncPage, "is_sure", lambda _self, _clock: True))


def _wait_for_nobody(stack: ExitStack) -> None:
    stack.enter_context(_set(Acknowledgements, "is_waited_for", lambda _self, _node: False))


def _acknowledge_at_once(stack: ExitStack) -> None:
    async def wait(self: Acknowledgements, seq: int) -> set[str]:
        del seq
        return {peer.node for peer in self.peers() if peer.subscribed}

    stack.enter_context(_set(Acknowledgements, "wait", wait))


def _forget_promises(stack: ExitStack) -> None:
    stack.enter_context(_set(SyncPage, "promised_s", lambda _self, _clock: 0.0))


def _let_the_latest_role_win(stack: ExitStack) -> None:
    stack.enter_context(_rules(MEMBER, "resolvers", {**MEMBER.resolvers, "role": latest}))


def _let_writes_win(stack: ExitStack) -> None:
    stack.enter_context(_rules(USER, "delete_wins", False))  # noqa: FBT003 - the field's value
    stack.enter_context(_rules(MEMBER, "delete_wins", False))  # noqa: FBT003 - the field's value


def _write_on_after_a_restore(stack: ExitStack) -> None:
    def settle(self: Store, *, instead_of: str = "", place: str | None = None) -> str:
        del instead_of, place
        self.settle()
        return self.origin

    stack.enter_context(_set(Store, "begin_incarnation", settle))


def _fetch_nothing(stack: ExitStack) -> None:
    stack.enter_context(_set(Backlog, "want", lambda _self, _digest, _size: None))
    stack.enter_context(_set(Transfers, "inline", lambda _self, _digest, _content: None))


def _remember_old_tags(stack: ExitStack) -> None:
    stack.enter_context(_set(ManifestCache, "on_change", lambda _self, _kind, _key: None))


def _remember_old_rights(stack: ExitStack) -> None:
    stack.enter_context(_set(AccountCaches, "on_change", lambda _self, _kind, _key: None))


def _accept_gaps(stack: ExitStack) -> None:
    def apply(self: Transaction, change: Change) -> bool:
        if change.seq <= self.applied(change.origin):
            return False
        self._merge(change)
        self._append(change.origin, change.seq, change.kind, change.key, change.record)
        return True

    stack.enter_context(_set(Transaction, "apply", apply))


def _project_no_deletions(stack: ExitStack) -> None:

    def keep(connection: Any, kind: str, key: str, values: Any, **more: Any) -> None:  # noqa: ANN401 - handed on
        if values is not None:
            project_record(connection, kind, key, values, **more)

    stack.enter_context(_set(transactions, "project_record", keep))


def _follow_no_members(stack: ExitStack) -> None:
    def applied(self: Engine, node: str, changes: list[Change], vector: VersionVector) -> None:
        original(self, node, [change for change in changes if change.kind != NODE.name], vector)

    original = Engine.applied
    stack.enter_context(_set(Engine, "applied", applied))


def _drop_deletions_early(stack: ExitStack) -> None:
    def applied_here(connection: Connection, node: str) -> VersionVector:
        del node
        return {row.origin: row.seq for row in connection.execute(select(origins.c.origin, origins.c.seq)) if row.origin}

    stack.enter_context(_set(compaction, "stable", applied_here))


MUTATIONS: Final[dict[str, Mutation]] = {
    "merge-keeps-seen-versions": _keep_seen_versions,
    "merge-keeps-latest-only": _keep_latest_version_only,
    "sent-counts-as-applied": _count_sent_as_applied,
    "lease-ignored": _always_be_sure,
    "nobody-waited-for": _wait_for_nobody,
    "acknowledged-at-once": _acknowledge_at_once,
    "promises-forgotten": _forget_promises,
    "latest-role-wins": _let_the_latest_role_win,
    "delete-loses": _let_writes_win,
    "restored-node-writes-on": _write_on_after_a_restore,
    "blobs-not-fetched": _fetch_nothing,
    "old-tags-remembered": _remember_old_tags,
    "old-rights-remembered": _remember_old_rights,
    "gaps-accepted": _accept_gaps,
    "deletions-not-projected": _project_no_deletions,
    "members-not-followed": _follow_no_members,
    "deletions-dropped-early": _drop_deletions_early,
}


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """Have that thing wrong within the block; nothing for an empty name."""
    with ExitStack() as stack:
        if name:
            MUTATIONS[name](stack)
        yield
