"""Conflicts are listed with what was written and what holds, for administrators, until somebody has seen to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.accounts import PASSWORD, AccountsNode, make_user, rows, site
from tests.support.described import require_described
from tests.support.metadata import exchange, open_sqlite
from twinhull.kit.clock import ManualClock, SystemClock
from twinhull.metadata.migrate import migrate
from twinhull.metadata.store import Store
from twinhull.records.kinds import PROJECT, REGISTRY, TAG, USER, tag_key
from twinhull.records.merge import Kind, Value

__all__ = ["site"]

CONFLICTS = "/api/twinhull/v1/conflicts"


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Store]:
    """Another node's store."""
    database = open_sqlite(tmp_path / "peer")
    migrate(database)
    yield Store(database, node="n2", slot=1, clock=ManualClock(SystemClock().unix_ms()))
    database.close()


def write_on_both(stores: tuple[Store, Store], kind: Kind, key: str, ours: dict[str, Value], theirs: dict[str, Value]) -> None:
    """Change a thing on both sides while they are apart, and bring them together."""
    with stores[0].write() as transaction:
        if transaction.values(kind, key) is None:
            transaction.create(kind, key, {})
    exchange(*stores)
    # So that it writes later, however quick this is.
    assert isinstance(stores[1].clock, ManualClock)
    stores[1].clock.advance(10_000)
    for store, fields in zip(stores, (ours, theirs), strict=True):
        with store.write() as transaction:
            transaction.put(kind, key, fields)
    exchange(*stores)


async def test_conflict_is_listed_with_what_was_written_and_what_holds(site: AccountsNode, peer: Store) -> None:
    assert rows(await site.admin("GET", CONFLICTS)) == []
    write_on_both(
        (site.store, peer), USER, "admin", {"email": "ours@x", "realname": "same"}, {"email": "theirs@x", "realname": "same"}
    )
    (conflict,) = rows(await site.admin("GET", CONFLICTS))
    assert (conflict["kind"], conflict["key"], conflict["field"]) == ("user", "admin", "email")
    assert (conflict["winner"], conflict["acknowledged"]) == ("theirs@x", False)
    assert [(one["value"], one["node"]) for one in conflict["candidates"]] == [("ours@x", site.store.node), ("theirs@x", "n2")]
    assert await site.admin.ok(200, "GET", f"{CONFLICTS}/{conflict['id']}") == conflict
    require_described("GET", "/conflicts/{conflict_id}", 200, conflict)
    # The other node calls it the same.
    with peer.read() as connection:
        assert [row.id for row in connection.exec_driver_sql("SELECT id FROM conflicts")] == [conflict["id"]]


async def test_conflicts_are_filtered_and_paged(site: AccountsNode, peer: Store) -> None:
    write_on_both(
        (site.store, peer),
        PROJECT,
        "library",
        {"owner": "a", "metadata.public": "true"},
        {"owner": "b", "metadata.public": "x"},
    )
    write_on_both((site.store, peer), USER, "admin", {"email": "a"}, {"email": "b"})
    page = await site.admin("GET", f"{CONFLICTS}?page_size=2&page=2&sort=kind,field")
    assert page["x-total-count"] == "3"
    assert [one["field"] for one in rows(page)] == ["email"]
    found = rows(await site.admin("GET", f"{CONFLICTS}?q=kind=project,field=owner"))
    assert [(one["key"], one["winner"]) for one in found] == [("library", "b")]
    assert rows(await site.admin("GET", f"{CONFLICTS}?q=key=~ADM"))[0]["kind"] == "user"


async def test_conflict_that_is_seen_to_is_so_on_every_node(site: AccountsNode, peer: Store) -> None:
    write_on_both((site.store, peer), USER, "admin", {"email": "a", "comment": "a"}, {"email": "b", "comment": "b"})
    first, second = rows(await site.admin("GET", CONFLICTS))
    path = f"{CONFLICTS}/{first['id']}/acknowledgement"
    assert (await site.admin("PUT", path)).status == 200
    assert (await site.admin("PUT", path)).status == 200
    assert [one["id"] for one in rows(await site.admin("GET", f"{CONFLICTS}?acknowledged=false"))] == [second["id"]]
    (seen,) = rows(await site.admin("GET", f"{CONFLICTS}?acknowledged=true"))
    assert (seen["id"], seen["acknowledged_by"]) == (first["id"], "admin")
    exchange(site.store, peer)
    with peer.read() as connection:
        assert connection.exec_driver_sql("SELECT name FROM documents WHERE kind = 'settled_conflict'").scalar() == first["id"]


async def test_secrets_are_not_shown(site: AccountsNode, peer: Store) -> None:
    write_on_both((site.store, peer), REGISTRY, "/hub", {"access_secret": "ours"}, {"access_secret": "theirs"})
    reply = await site.admin("GET", CONFLICTS)
    assert [(one["field"], one["winner"]) for one in rows(reply)] == [("access_secret", None)]
    assert b"ours" not in reply.body
    assert b"theirs" not in reply.body


async def test_tag_that_two_pushed_is_logged_and_shown(
    site: AccountsNode, peer: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    write_on_both(
        (site.store, peer), TAG, tag_key("library/app", "v1"), {"target": {"digest": "a"}}, {"target": {"digest": "b"}}
    )
    (conflict,) = rows(await site.admin("GET", f"{CONFLICTS}?q=kind=tag"))
    assert (conflict["key"], conflict["winner"]["digest"]) == ("library/app:v1", "b")
    assert [one["value"]["digest"] for one in conflict["candidates"]] == ["a", "b"]
    logged = [line for line in capsys.readouterr().out.splitlines() if "tag conflict" in line]
    assert len(logged) == 2
    assert all("library/app:v1" in line for line in logged)


async def test_conflicts_are_for_administrators_alone(site: AccountsNode) -> None:
    await make_user(site, "alice")
    for method, path in (("GET", CONFLICTS), ("GET", f"{CONFLICTS}/x"), ("PUT", f"{CONFLICTS}/x/acknowledgement")):
        assert (await site.anonymous(method, path)).status == 401
        assert (await site.user("alice", PASSWORD)(method, path)).status == 403
    for method, path in (("GET", f"{CONFLICTS}/x"), ("PUT", f"{CONFLICTS}/%00/acknowledgement")):
        reply = await site.admin(method, path)
        assert (reply.status, reply.json()["errors"][0]["code"]) == (404, "NOT_FOUND")
    assert (await site.admin("GET", f"{CONFLICTS}/x/nothing")).status == 404
