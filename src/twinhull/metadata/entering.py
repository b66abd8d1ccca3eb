"""A node's own data made ready for another cluster's: as if both had been one cluster, cut apart from the beginning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import Connection, delete, select, text, update

from twinhull.kit.clock import Clock
from twinhull.kit.hlc import Stamp
from twinhull.metadata.database import Database
from twinhull.metadata.incarnation import move
from twinhull.metadata.migrate import revision_of
from twinhull.metadata.sealed import with_texts
from twinhull.metadata.tables import accounts
from twinhull.metadata.tables.columns import upsert
from twinhull.metadata.tables.documents import progress
from twinhull.metadata.tables.log import changes, records
from twinhull.metadata.tables.own import (
    hybrid_clock,
    id_counters,
    incarnations,
    invites,
    origins,
    peer_acknowledgements,
)
from twinhull.metadata.transaction import MERGED, Transaction
from twinhull.records.kinds import (
    ARTIFACT_LABEL,
    ENTITY_LIFE,
    KINDS,
    LABEL,
    LIFE,
    MEMBER,
    NODE,
    PROGRESS,
    PROJECT,
    ROBOT,
    SETTING,
    TRUST_SETTING,
    USER,
    USER_GROUP,
    id_and_aliases,
    life_of,
    new_ids,
    number_of_life,
    split_member_key,
)
from twinhull.records.merge import Kind, Value, decode, is_dead, values_of

_PAGE: Final = 500
_RECORDS_PAGE: Final = text(
    "SELECT kind, key, record FROM records WHERE (kind, key) > (:kind, :key) ORDER BY kind, key LIMIT :limit"
)

# What other records are hung on, in one of its lives.
_HUNG_ON: Final = frozenset({PROJECT.name, USER.name, USER_GROUP.name, LABEL.name})
# The life of what was hung on one that ended: no id is like it.
_ENDED: Final[Value] = [0, 0, "", -1]

# Given a text of a record, it returns what the new cluster can read in its place: the same, if it is no sealed secret.
Reseal = Callable[[str], str]


def has_data(database: Database) -> bool:
    """Tell whether there is anything in the database."""
    with database.read() as connection:
        return revision_of(connection) is not None


def prepare_to_merge(database: Database, *, was: str, node: str, slot: int, clock: Clock, reseal: Reseal) -> None:
    """Make the node `was` a node of another cluster, all in one transaction; a second call does nothing.

    Its records stay and will be merged with the cluster's. The ids in them are given anew, since the cluster has given the
    same ones to other things, and its log ends here: peers get its records whole.
    """
    with database.write() as connection:
        if connection.execute(select(incarnations.c.node).where(incarnations.c.node == node)).first() is not None:
            return
        _close_log(connection)
        # Who belongs to the cluster, and whom it believes, is the cluster's to say.
        connection.execute(delete(records).where(records.c.kind.in_([NODE.name, PROGRESS.name])))
        connection.execute(delete(accounts.nodes))
        connection.execute(delete(progress))
        connection.execute(delete(records).where(records.c.kind == SETTING.name, records.c.key == TRUST_SETTING))
        connection.execute(delete(accounts.settings).where(accounts.settings.c.name == TRUST_SETTING))
        for table in (id_counters, invites, peer_acknowledgements):
            connection.execute(delete(table))
        last = connection.execute(select(hybrid_clock).where(hybrid_clock.c.node == was)).first()
        if last is not None:
            upsert(hybrid_clock).run(connection, {"node": node, "ms": last.ms, "counter": last.counter})
        move(connection, node, database.place())
        position = _Rewriting(connection, node=node, slot=slot, clock=clock, reseal=reseal).run()
        if position:
            database.publish(position)


def _close_log(connection: Connection) -> None:
    connection.execute(update(origins).where(origins.c.origin != MERGED).values(floor=origins.c.seq))
    connection.execute(delete(changes))


class _Rewriting:
    """Goes through all that lives."""

    def __init__(self, connection: Connection, *, node: str, slot: int, clock: Clock, reseal: Reseal) -> None:
        self._connection = connection
        self._node = node
        self._slot = slot
        self._clock = clock
        self._reseal = reseal
        # By kind and what was its id: the life that goes on under another.
        self._lives: dict[tuple[str, int], Value] = {}

    def run(self) -> int:
        """Write anew what must not stay as it is, and return the log's position after it."""
        # What is hung on others comes after all of these have their new ids.
        return max(self._go_through(self._rewrite), self._go_through(self._hang_anew))

    def _go_through(self, rewrite: Callable[[Transaction, Kind, str, Mapping[str, Value]], None]) -> int:
        kind, key, position = "", "", 0
        while page := self._connection.execute(_RECORDS_PAGE, {"kind": kind, "key": key, "limit": _PAGE}).all():
            # One for each page: it remembers all that it has read.
            transaction = Transaction(self._connection, node=self._node, slot=self._slot, clock=self._clock)
            for kind, key, encoded in page:
                record = decode(encoded)
                if not is_dead(KINDS[kind], record):
                    rewrite(transaction, KINDS[kind], key, values_of(KINDS[kind], record))
            transaction.finish()
            position = transaction.position or position
        return position

    def _rewrite(self, transaction: Transaction, kind: Kind, key: str, values: Mapping[str, Value]) -> None:
        changed = {field: after for field, before in values.items() if (after := with_texts(before, self._reseal)) != before}
        if values.get("ids"):
            # Stamped with this moment: where the cluster has the same thing already, its id stays.
            changed["ids"] = new_ids(transaction.next_id(kind), Stamp(transaction.now_ms(), 0, self._node))
            if kind.name in _HUNG_ON:
                number, aliases = id_and_aliases(values["ids"])
                self._lives.update(dict.fromkeys(((kind.name, one) for one in (number, *aliases)), life_of(changed["ids"])))
        if changed:
            transaction.put(kind, key, changed)

    def _hang_anew(self, transaction: Transaction, kind: Kind, key: str, values: Mapping[str, Value]) -> None:
        """Say by the new ids in which life of something a thing was made."""
        changed = {}
        if number_of_life(values.get(LIFE)):
            changed[LIFE] = self._now(LABEL if kind is ARTIFACT_LABEL else PROJECT, values[LIFE])
        if number_of_life(values.get(ENTITY_LIFE)) and kind is MEMBER:
            changed[ENTITY_LIFE] = self._now(USER if split_member_key(key)[1] == "u" else USER_GROUP, values[ENTITY_LIFE])
        permissions = values.get("permissions")
        if kind is ROBOT and isinstance(permissions, list):
            bound = [
                {**one, LIFE: self._now(PROJECT, one[LIFE])} if isinstance(one, dict) and one.get(LIFE) else one
                for one in permissions
            ]
            changed |= {"permissions": bound} if bound != permissions else {}
        if changed:
            transaction.put(kind, key, changed)

    def _now(self, kind: Kind, life: Value) -> Value:
        return self._lives.get((kind.name, number_of_life(life)), _ENDED)
