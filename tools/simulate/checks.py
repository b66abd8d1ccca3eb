"""What must be so when everything is quiet again: all nodes agree, and on what follows from the facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any, Final

from sqlalchemy import Connection, select

from tools.simulate.facts import Fact, latest_of
from tools.simulate.host import Host
from tools.simulate.world import World
from twinhull.metadata import content, members
from twinhull.metadata.projections.project import rebuild_projections
from twinhull.metadata.schema import metadata
from twinhull.metadata.store import Store
from twinhull.metadata.tables.columns import DERIVED
from twinhull.records.kinds import BLOB, KINDS, MANIFEST, MEMBER, REPOSITORY, ROBOT, TAG, USER, split_content_key
from twinhull.records.merge import Value, decode, is_dead, values_of

# So many writes whose fate is open are tried out in all ways.
_OPEN_MAX: Final = 4
_DEAD: Final = "dead"
# Written down here once more: the program's own table may be what is wrong.
_ROLES_BY_POWER: Final = (5, 3, 2, 4, 1)
_DELETE_WINS: Final = frozenset({"user", "member", "robot"})

Records = dict[tuple[str, str], bytes]


def records_of(store: Store) -> Records:
    """Return all records as they are stored."""
    found: Records = {}
    kind, key = "", ""
    while page := store.records_after(kind, key, 1000).records:
        found.update({(change.kind, change.key): change.record for change in page})
        kind, key = page[-1].kind, page[-1].key
    return found


def agree(hosts: Sequence[Host]) -> bool:
    """Tell whether all have applied the same, have the same state roots, and lack no blob that any of them has."""
    roots = [host.store().state_root() for host in hosts]
    return all(root == roots[0] for root in roots) and not any(lacking(hosts))


def lacking(hosts: Sequence[Host]) -> list[str]:
    """Return what blobs are named on a node that lacks them although another one has them."""
    found = []
    for host in hosts:
        with host.database.read() as connection:
            named = members.named_blobs_page(connection, "", 10_000)
        found += [
            f"{host.name} lacks {digest}"
            for digest, _ in named
            if host.blobs.stat(digest) is None and any(other.blobs.stat(digest) is not None for other in hosts)
        ]
    return found


def judge(world: World) -> None:
    """Fail the world for whatever is not as it must be."""
    first = world.hosts[0]
    records = records_of(first.store())
    for host in world.hosts[1:]:
        theirs = records_of(host.store())
        for named in sorted(records.keys() | theirs.keys()):
            one, other = records.get(named), theirs.get(named)
            # A deletion may have been dropped on one of them already.
            if one != other and (_lives(named[0], one) or _lives(named[0], other)):
                world.fail(f"{named} is not the same on {first.name} and {host.name}")
    for kind, key in sorted(world.ledger.by_key):
        if kind in _WANTED:
            _judge_record(world, kind, key, records.get((kind, key)))
    _judge_contents(world, first, records)
    _judge_blobs(world, first)
    for host in (first, world.hosts[-1]):
        _judge_projections(world, host)


def _lives(kind: str, encoded: bytes | None) -> bool:
    return encoded is not None and not is_dead(KINDS[kind], decode(encoded))


# -- records -----------------------------------------------------------------------------------------------------------


def _judge_record(world: World, kind: str, key: str, encoded: bytes | None) -> None:
    rules = KINDS[kind]
    record = decode(encoded) if encoded is not None else None
    found: Value = _DEAD
    if record is not None and not is_dead(rules, record):
        values = values_of(rules, record)
        found = {name: values.get(name) for name in _WANTED[kind]}
    facts = world.ledger.by_key[kind, key]
    certain = [fact for fact in facts if not fact.lost]
    # What all nodes that had it have lost may still have come through: answers to single questions, pages of a snapshot.
    uncertain = [fact for fact in facts if fact.lost and not any(other.saw(fact) for other in certain)]
    if len(uncertain) > _OPEN_MAX:
        world.count("records with an open fate")
        return
    wanted = [_expected(kind, [*certain, *some]) for some in _subsets(uncertain)]
    if found not in wanted:
        world.fail(f"{kind} {key} is {found}, but must be {' or '.join(str(each) for each in wanted)}")


def _subsets(facts: list[Fact]) -> Iterable[tuple[Fact, ...]]:
    return (some for size in range(len(facts) + 1) for some in combinations(facts, size))


def _expected(kind: str, facts: list[Fact]) -> Value:
    """Return what the rules of DESIGN's table make of these writes."""
    latest = latest_of(facts)
    living = [fact for fact in latest if not fact.deleted]
    if not living or (kind in _DELETE_WINS and len(living) < len(latest)):
        return _DEAD
    if kind in _DELETE_WINS:
        # What was written to a thing that was deleted has no say in the new one of its name.
        deletions = {fact: {other.seq for other in facts if other.deleted and fact.saw(other)} for fact in living}
        living = [fact for fact in living if not any(deletions[fact] < deletions[other] for other in living)]
    return {name: _WANTED[kind][name](_setters(facts, living, name)) for name in _WANTED[kind]}


def _setters(facts: list[Fact], living: list[Fact], name: str) -> list[Fact]:
    """Return the writes of a field that stand: those that living versions rest on, and no later setter had seen."""
    setting = [
        fact
        for fact in facts
        if name in fact.fields and not fact.deleted and any(one is fact or one.saw(fact) for one in living)
    ]
    return sorted(latest_of(setting), key=lambda fact: fact.stamp)


def _field(name: str) -> Any:  # noqa: ANN401 - a small function made here
    return lambda facts: facts[-1].fields[name] if facts else None


def _weakest_role(facts: list[Fact]) -> Value:
    roles = [fact.fields["role"] for fact in facts]
    return min(roles, key=_ROLES_BY_POWER.index) if roles else None


def _any(name: str) -> Any:  # noqa: ANN401 - a small function made here
    return lambda facts: any(fact.fields[name] for fact in facts)


def _all(name: str) -> Any:  # noqa: ANN401 - a small function made here
    return lambda facts: bool(facts) and all(fact.fields[name] for fact in facts)


_WANTED: Final[dict[str, dict[str, Any]]] = {
    TAG.name: {"target": _field("target")},
    MANIFEST.name: {},
    BLOB.name: {},
    REPOSITORY.name: {},
    USER.name: {"sysadmin": _all("sysadmin")},
    MEMBER.name: {"role": _weakest_role},
    ROBOT.name: {"disable": _any("disable")},
}


# -- what is served ----------------------------------------------------------------------------------------------------


def _judge_contents(world: World, host: Host, records: Records) -> None:
    """Want every manifest that lives to be served with its bytes."""
    with host.database.read() as connection:
        for (kind, key), encoded in records.items():
            if kind == MANIFEST.name and not is_dead(MANIFEST, decode(encoded)):
                repository, digest = split_content_key(key)
                if content.manifest(connection, repository, digest) is None:
                    world.fail(f"manifest {key} lives and is not served at {host.name}")


def _judge_blobs(world: World, host: Host) -> None:
    """Want every blob that something names to be somewhere, unless the machine that had it is gone."""
    with host.database.read() as connection:
        named = members.named_blobs_page(connection, "", 10_000)
    for digest, _ in named:
        if digest not in world.lost_blobs and all(one.blobs.stat(digest) is None for one in world.hosts):
            world.fail(f"blob {digest} is named, and no node has it any more")


class _UndoneError(Exception):
    """Takes the rebuild back."""


def _judge_projections(world: World, host: Host) -> None:
    """Want the tables that requests query to be what a rebuild from the records makes."""
    try:
        with host.database.write() as connection:
            before = _derived(connection)
            rebuild_projections(connection)
            after = _derived(connection)
            for table in before:
                if before[table] != after[table]:
                    differing = before[table] ^ after[table]
                    world.fail(f"table {table} at {host.name} is not what its records make: {sorted(differing)[:2]}")
            raise _UndoneError
    except _UndoneError:
        return


def _derived(connection: Connection) -> dict[str, set[str]]:
    return {
        table.name: {repr(tuple(row)) for row in connection.execute(select(table))}
        for table in metadata.sorted_tables
        if table.info == DERIVED
    }
