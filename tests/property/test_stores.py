"""Whatever is written where and however changes travel, stores that have exchanged all of them are equal, tables and all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.metadata import derived_rows, manifest_fields, open_sqlite
from twinhull.kit.clock import ManualClock
from twinhull.metadata.migrate import migrate
from twinhull.metadata.projections.project import rebuild_projections
from twinhull.metadata.store import Store
from twinhull.records.kinds import BLOB, MANIFEST, MEMBER, PROJECT, REPOSITORY, ROBOT, TAG, USER
from twinhull.records.merge import Kind, Value

NODES = ("n1", "n2", "n3")
ALL = 10_000
# Things that depend on each other: what revives what is where tables could go wrong.
THINGS: tuple[tuple[Kind, str], ...] = (
    (USER, "alice"),
    (PROJECT, "p"),
    (MEMBER, "p/u/alice"),
    (ROBOT, "p+ci"),
    (REPOSITORY, "p/a"),
    (REPOSITORY, "p/b"),
    (MANIFEST, "p/a@sha256:1"),
    (MANIFEST, "p/b@sha256:2"),
    (TAG, "p/a:v1"),
    (BLOB, "p/a@sha256:3"),
)
FEW = hypothesis.settings(max_examples=max(40, hypothesis.settings().max_examples // 20))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What somebody does at a node: write something there, or take from another node."""

    what: str
    node: int
    other: int
    thing: int
    number: int


NUMBERS = st.integers(0, len(NODES) - 1)
STEPS = st.lists(
    st.builds(
        Step,
        what=st.sampled_from(["write", "write", "write", "delete", "delete", "take", "take", "find", "snapshot", "wait"]),
        node=NUMBERS,
        other=NUMBERS,
        thing=st.integers(0, len(THINGS) - 1),
        number=st.integers(0, 3),
    ),
    min_size=5,
    max_size=30,
)


@pytest.fixture(scope="module")
def quick_disk() -> Iterator[Path]:
    """A directory with a migrated database, where fsync costs nothing if there is such a place."""
    with tempfile.TemporaryDirectory(dir=next(filter(os.path.isdir, ["/dev/shm"]), None)) as directory:
        database = open_sqlite(Path(directory))
        migrate(database)
        database.close()
        yield Path(directory)


@contextmanager
def stores_in(quick_disk: Path, clock: ManualClock) -> Iterator[list[Store]]:
    """Open a fresh store for each node."""
    with tempfile.TemporaryDirectory(dir=quick_disk) as directory:
        stores = []
        for slot, node in enumerate(NODES):
            home = Path(directory) / node
            home.mkdir()
            shutil.copy(quick_disk / "metadata.db", home)
            stores.append(Store(open_sqlite(home), node=node, slot=slot, clock=clock))
        try:
            yield stores
        finally:
            for store in stores:
                store.close()


def fields_of(kind: Kind, number: int) -> dict[str, Value]:
    """Return what is written to a thing."""
    if kind is MANIFEST:
        # What it names never changes, since its digest names its bytes; what is known of it may.
        return manifest_fields(blobs={"sha256:4": number}, children=("sha256:2",))
    if kind is TAG:
        return {"target": {"digest": f"sha256:{number}", "immutable": number == 3}}
    if kind is PROJECT:
        return {"metadata.public": "true" if number % 2 else "false", "owner": f"o{number}"}
    return {"role": 1 + number, "email": f"{number}@x", "description": str(number), "project": "p", "size": number}


def write(store: Store, kind: Kind, key: str, number: int) -> None:
    """Make the thing, or change it."""
    with store.write() as transaction:
        if transaction.values(kind, key) is None:
            new_id = transaction.next_id(kind) if kind is not BLOB else None
            transaction.create(kind, key, fields_of(kind, number), number=new_id)
        else:
            transaction.put(kind, key, fields_of(kind, number) if number else {})


def take(store: Store, other: Store, limit: int) -> None:
    """Apply the next changes of each origin that the other node has, some origins' before those they rest on."""
    for origin, seq in sorted(other.vector().items()):
        have = store.vector().get(origin, 0)
        changes = [change for _, change in other.changes_of(origin, have, limit)]
        if changes and changes[0].seq == have + 1:
            with store.write() as transaction:
                assert all(transaction.apply(change) for change in changes)
        elif seq > have:
            take_snapshot(store, other)


def take_snapshot(store: Store, other: Store) -> None:
    """Merge all that the other node has."""
    vector = other.vector()
    with store.write() as transaction:
        for record in other.records_after("", "", ALL).records:
            transaction.merge_record(record)
        transaction.reached(vector)


def carry_out(step: Step, stores: list[Store], clock: ManualClock) -> None:
    """Do the step."""
    store, other = stores[step.node], stores[step.other]
    kind, key = THINGS[step.thing]
    match step.what:
        case "write":
            write(store, kind, key, step.number)
        case "delete":
            with store.write() as transaction:
                transaction.delete(kind, key)
        case "take":
            take(store, other, 1 + step.number)
        case "find":
            record = other.record(kind.name, key)
            if record is not None:
                with store.write() as transaction:
                    transaction.merge_record(record)
        case "snapshot" if step.number == 0:
            take_snapshot(store, other)
        case "wait":
            clock.advance(step.number)


@FEW
@given(steps=STEPS)
def test_stores_are_equal_once_they_have_exchanged_all_changes(quick_disk: Path, steps: list[Step]) -> None:
    clock = ManualClock()
    with stores_in(quick_disk, clock) as stores:
        for step in steps:
            carry_out(step, stores, clock)
        for reader in (*stores, *stores):
            for source in stores:
                take(reader, source, ALL)
        for store in stores:
            assert store.state_root() == stores[0].state_root()
            assert list(store.records_after("", "", ALL).records) == list(stores[0].records_after("", "", ALL).records)
            with store.read() as connection, stores[0].read() as first:
                tables = derived_rows(connection)
                assert tables == derived_rows(first)
            with store.write() as transaction:
                rebuild_projections(transaction.connection)
                assert derived_rows(transaction.connection) == tables
