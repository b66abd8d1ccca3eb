"""A node's own data on their way into another cluster: merged like what was written on the far side of a partition."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.metadata import Opened, derived_rows, open_sqlite, push
from twinhull.catalog.lives import life_of_project, lives_of_member
from twinhull.kit.clock import ManualClock
from twinhull.metadata import accounts, members
from twinhull.metadata.documents import list_documents
from twinhull.metadata.entering import has_data, prepare_to_merge
from twinhull.metadata.migrate import migrate
from twinhull.metadata.projections.project import rebuild_projections
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import ID_BLOCK, SLOTS
from twinhull.records.kinds import (
    LABEL,
    MANIFEST,
    MEMBER,
    NODE,
    PROJECT,
    ROBOT,
    SETTING,
    TAG,
    TRUST_SETTING,
    USER,
    document_key,
    id_and_aliases,
    member_key,
    tag_key,
)
from twinhull.records.merge import Value

SLOT: Final = 5
PAGE: Final = 1000


@pytest.fixture
def cluster(tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    """A node of the cluster that is entered."""
    database = open_sqlite(tmp_path / "cluster")
    migrate(database)
    yield Store(database, node="c1", slot=0, clock=clock)
    database.close()


def create_project(store: Store, name: str, owner: str) -> None:
    """Make a project with the next id."""
    with store.write() as transaction:
        fields = {"owner": owner, "created_ms": transaction.now_ms(), "updated_ms": transaction.now_ms()}
        transaction.create(PROJECT, name, fields, number=transaction.next_id(PROJECT))


def project_ids(store: Store) -> dict[str, tuple[int, list[int]]]:
    """Return id and aliases of each project."""
    found = {}
    for change in store.records_after(PROJECT.name, "", PAGE).records:
        if change.kind == PROJECT.name:
            with store.write() as transaction:
                values = transaction.values(PROJECT, change.key)
            if values is not None:
                found[change.key] = id_and_aliases(values["ids"])
    return found


def take_all(store: Store, source: Store) -> None:
    """Merge all that the source has, as a snapshot does."""
    with store.write() as transaction:
        for change in source.records_after("", "", PAGE).records:
            transaction.merge_record(change)
        transaction.reached(source.vector())


def entered(opened: Opened, clock: ManualClock) -> Store:
    """Let the node become one of the cluster."""
    prepare_to_merge(
        opened.database,
        was="n1",
        node="n2",
        slot=SLOT,
        clock=clock,
        reseal=lambda text: text.upper() if text == "secret" else text,
    )
    return Store(opened.database, node="n2", slot=SLOT, clock=clock)


def test_both_have_everything_afterwards_and_no_id_names_two_things(
    store: Store, opened: Opened, cluster: Store, clock: ManualClock
) -> None:
    for name in ("library", "theirs"):
        create_project(cluster, name, "c")
    clock.advance(5)
    for name in ("library", "ours"):
        create_project(store, name, "n")
    with store.write() as transaction:
        digest = push(transaction, b"{}", repository="ours/app", tag="v1")
    ours = entered(opened, clock)

    take_all(ours, cluster)
    take_all(cluster, ours)

    assert ours.state_root()[1] == cluster.state_root()[1]
    ids = project_ids(cluster)
    assert ids == project_ids(ours)
    assert ids["theirs"] == (2, [])
    # What both had keeps the cluster's id; the newcomer's own goes on as an alias.
    assert ids["library"][0] == 1
    numbers = [number for one, aliases in ids.values() for number in (one, *aliases)]
    assert len(numbers) == len(set(numbers)) == 4
    assert (ids["ours"][0] - 1) // ID_BLOCK % SLOTS == SLOT
    with cluster.write() as transaction:
        target = (transaction.values(TAG, tag_key("ours/app", "v1")) or {})["target"]
        assert isinstance(target, dict)
        assert target["digest"] == digest
        assert transaction.values(MANIFEST, f"ours/app@{digest}") is not None


def test_peers_that_read_the_log_are_sent_everything(store: Store, opened: Opened, clock: ManualClock) -> None:
    create_project(store, "ours", "n")
    before = store.vector()["n1"]
    ours = entered(opened, clock)
    assert ours.floors()["n1"] == before
    assert ours.changes_of("n1", 0, PAGE) == []
    assert [change.key for _, change in ours.changes_of("n2", 0, PAGE)] == ["ours"]
    assert ours.position() > 0


def test_members_are_those_that_the_cluster_says(store: Store, opened: Opened, cluster: Store, clock: ManualClock) -> None:
    fields = {"name": "n", "slot": 0, "address": "h:1", "url": "", "token_keys": [], "joined_ms": 0}
    for node, home in (("n1", store), ("c1", cluster)):
        with home.write() as transaction:
            transaction.create(NODE, node, fields)
    # As a node does that leaves: what it says of the others then must not reach them when it comes back.
    take_all(store, cluster)
    with store.write() as transaction:
        transaction.delete(NODE, "c1")
    # Nor does it bring along whose certificates its own cluster believed.
    clock.advance(5)
    with store.write() as transaction:
        transaction.create(SETTING, TRUST_SETTING, {"value": {"rotation": 7}})
    with cluster.write() as transaction:
        transaction.create(SETTING, TRUST_SETTING, {"value": {"rotation": 1}})
    create_project(store, "ours", "n")
    ours = entered(opened, clock)
    with ours.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM settings").scalar() == 0
    take_all(cluster, ours)
    with cluster.write() as transaction:
        assert transaction.values(SETTING, TRUST_SETTING) == {"value": {"rotation": 1}}
    with cluster.read() as connection:
        assert [node.id for node in members.nodes(connection)] == ["c1"]


def test_what_was_revoked_on_either_side_stays_revoked(
    store: Store, opened: Opened, cluster: Store, clock: ManualClock
) -> None:
    for home, name in ((store, "gone-here"), (cluster, "gone-there")):
        with home.write() as transaction:
            transaction.create(USER, name, {"email": "e"}, number=transaction.next_id(USER))
            transaction.delete(USER, name)
    for home, name in ((store, "gone-there"), (cluster, "gone-here")):
        with home.write() as transaction:
            transaction.create(USER, name, {"email": "e"}, number=transaction.next_id(USER))
    ours = entered(opened, clock)
    take_all(ours, cluster)
    take_all(cluster, ours)
    for home in (ours, cluster):
        with home.write() as transaction:
            assert transaction.values(USER, "gone-here") is transaction.values(USER, "gone-there") is None


def test_sealed_secrets_are_sealed_anew_wherever_they_stand(store: Store, opened: Opened, clock: ManualClock) -> None:
    with store.write() as transaction:
        transaction.create(SETTING, "s", {"value": {"list": ["secret", 1], "flat": "secret"}})
        transaction.create(SETTING, "t", {"value": 7})
    ours = entered(opened, clock)
    with ours.write() as transaction:
        assert (transaction.values(SETTING, "s") or {})["value"] == {"list": ["SECRET", 1], "flat": "SECRET"}
    assert [change.key for _, change in ours.changes_of("n2", 0, PAGE)] == ["s"], "only what changed is written"


def test_done_twice_is_done_once(store: Store, opened: Opened, clock: ManualClock) -> None:
    create_project(store, "ours", "n")
    ours = entered(opened, clock)
    root = ours.state_root()
    assert entered(opened, clock).state_root() == root
    with opened.database.write() as connection:
        rows = derived_rows(connection)
        rebuild_projections(connection)
        assert derived_rows(connection) == rows


def test_clock_of_the_new_life_is_not_behind_the_old_one(store: Store, opened: Opened, clock: ManualClock) -> None:
    clock.advance(60_000)
    create_project(store, "ours", "n")
    clock.advance(-60_000)
    ours = entered(opened, clock)
    with ours.write() as transaction:
        transaction.put(PROJECT, "ours", {"owner": "later"})
    with ours.write() as transaction:
        assert (transaction.values(PROJECT, "ours") or {})["owner"] == "later"
        record = transaction.get(PROJECT, "ours")
        assert record is not None
        assert record.versions[0].write.stamp.ms >= clock.unix_ms() + 60_000


def test_empty_database_has_no_data(tmp_path: Path, opened: Opened) -> None:
    database = open_sqlite(tmp_path / "fresh")
    assert not has_data(database)
    database.close()
    assert has_data(opened.database)


def fill_team(store: Store) -> None:
    """Make a project with a member, a label, and robots of its own and of the system, as the catalog does."""
    create_project(store, "team", "admin")
    with store.write() as transaction:
        transaction.create(USER, "alice", {"email": "a@x"}, number=transaction.next_id(USER))
        number = transaction.next_id(MEMBER)
        lives = lives_of_member(transaction, "team", "u", "alice")
        transaction.create(MEMBER, member_key("team", "u", "alice"), {"role": 2, **lives}, number=number)
        life = life_of_project(transaction, "team")
        named = {"kind": "project", "namespace": "team", "access": [{"resource": "repository", "action": "pull"}]}
        for name, of in (("team+ci", {"project": "team", **life}), ("sys", {"project": ""})):
            fields: dict[str, Value] = {"level": "project", "permissions": [{**named, **life}], "updated_ms": 1, **of}
            transaction.create(ROBOT, name, fields, number=transaction.next_id(ROBOT))
        fields = {"color": "red", **life}
        transaction.create(LABEL, document_key("team", "old"), fields, number=transaction.next_id(LABEL))


def rights_in_team(store: Store) -> tuple[int | None, list[str], int]:
    """Return alice's role, the robots that may do anything, and how many labels the project has."""
    with store.read() as connection:
        found = [robot for name in ("team+ci", "sys") if (robot := accounts.find_robot(connection, name)) is not None]
        with_rights = [robot.name for robot in found if robot.permissions]
        return (
            accounts.find_role(connection, "team", "alice"),
            with_rights,
            list_documents(connection, LABEL, project="team")[1],
        )


@pytest.mark.parametrize("both_have_it", [False, True])
def test_members_robots_and_labels_stay_with_what_they_were_made_for(
    store: Store, opened: Opened, cluster: Store, clock: ManualClock, both_have_it: bool
) -> None:
    for number in range(3):
        create_project(cluster, f"theirs-{number}", "c")
    if both_have_it:
        create_project(cluster, "team", "c")
    clock.advance(5)
    fill_team(store)
    before = rights_in_team(store)
    assert before == (2, ["team+ci", "sys"], 1)
    ours = entered(opened, clock)
    take_all(ours, cluster)
    take_all(cluster, ours)
    assert rights_in_team(ours) == rights_in_team(cluster) == before


def test_what_hung_on_an_earlier_life_does_not_come_back(
    store: Store, opened: Opened, cluster: Store, clock: ManualClock
) -> None:
    fill_team(store)
    with store.write() as transaction:
        transaction.delete(PROJECT, "team")
    create_project(store, "team", "admin")
    assert rights_in_team(store) == (None, [], 0)
    # In the cluster the project has the id that it had here in its first life.
    create_project(cluster, "team", "c")
    ours = entered(opened, clock)
    take_all(ours, cluster)
    take_all(cluster, ours)
    assert rights_in_team(ours) == rights_in_team(cluster) == (None, [], 0)
