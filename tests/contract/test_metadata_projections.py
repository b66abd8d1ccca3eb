"""Query tables say what the records say, in whatever order those came, and can be made anew from them."""

from __future__ import annotations

from typing import Any, Final

import pytest
from sqlalchemy import Connection, Table, select

from tests.support.metadata import derived_rows, manifest_fields, push
from twinhull.kit.digest import Digest, digest_of
from twinhull.metadata import accounts, content, schema
from twinhull.metadata import members as peers
from twinhull.metadata.projections.project import rebuild_projections
from twinhull.metadata.store import Store
from twinhull.metadata.tables.accounts import ended_sessions, members, nodes, projects, robots, settings, users
from twinhull.metadata.tables.columns import DERIVED
from twinhull.metadata.tables.content import blob_links, manifests, repositories, tags
from twinhull.metadata.tables.documents import artifact_labels, audit_records, documents, executions, progress, pulls, tasks
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import (
    ARTIFACT_LABEL,
    AUDIT,
    BLOB,
    DOCUMENTS,
    EXECUTION,
    KINDS,
    MANIFEST,
    MEMBER,
    NODE,
    PROGRESS,
    PROJECT,
    PULLS,
    REPOSITORY,
    ROBOT,
    SESSION_END,
    SETTING,
    TAG,
    TASK,
    USER,
    artifact_label_key,
    content_key,
    member_key,
    owned_key,
    pulls_key,
    tag_key,
)
from twinhull.records.merge import Kind, Value

TIMES: Final = {"created_ms": 5, "updated_ms": 6}
DIGEST: Final = digest_of(b"manifest")
BLOB_DIGEST: Final = digest_of(b"blob")
CHILD: Final = digest_of(b"child")

# For each kind: its key, its fields, its table, and the row that must come of them.
CASES: Final[dict[str, tuple[str, dict[str, Value], Table, tuple[Any, ...]]]] = {
    NODE.name: (
        "n9",
        {"name": "nine", "slot": 3, "address": "h:1", "url": "http://h", "token_keys": [{"kid": "k"}], "joined_ms": 7},
        nodes,
        ("n9", "nine", 3, "h:1", "http://h", '[{"kid":"k"}]', 7),
    ),
    SETTING.name: ("s", {"value": {"a": [1]}}, settings, ("s", '{"a":[1]}')),
    USER.name: (
        "alice",
        {"email": "a@x", "realname": "A", "comment": "c", "password_hash": "h", "sysadmin": True, "disabled": True, **TIMES}
        | {"source": "ldap", "external_id": "cn=a", "groups": ["g"], "cli_secret": "sealed", "admin_in_auth": True},
        users,
        ("alice", 42, "a@x", "A", "c", "h", True, True, 5, 6, "ldap", "cn=a", '["g"]', "sealed", True),
    ),
    PROJECT.name: (
        "library",
        {"owner": "alice", "metadata.public": "true", "metadata.auto_scan": "false", "registry": "hub"}
        | {"metadata.severity": None, **TIMES},
        projects,
        ("library", 42, "alice", '{"auto_scan":"false","public":"true"}', True, 5, 6, "hub"),
    ),
    MEMBER.name: (
        "library/u/alice",
        {"role": 2, "life": [1, 0, "n1", 7], "entity_life": [1, 0, "n1", 8], **TIMES},
        members,
        ("library", "u", "alice", 42, 2, 5, 6, 7, 8),
    ),
    ROBOT.name: (
        "library+ci",
        {"level": "project", "project": "library", "description": "d", "permissions": [{"kind": "project"}], "disable": True}
        | {"secret_hash": "h", "duration_days": 30, "expires_at_s": 99, "life": [1, 0, "n1", 7], **TIMES},
        robots,
        ("library+ci", 42, "project", "library", "d", '[{"kind":"project"}]', True, "h", 30, 99, 5, 6, 7),
    ),
    SESSION_END.name: ("f00", {"expires_ms": 7}, ended_sessions, ("f00", 7)),
    REPOSITORY.name: (
        "library/app",
        {"description": "d", **TIMES},
        repositories,
        ("library/app", "library", 42, "d", 5, 6),
    ),
    MANIFEST.name: (
        content_key("library/app", DIGEST),
        {"media_type": "m", "artifact_type": "t", "config_digest": "c", "subject": "s", "annotations": {"a": "b"}}
        | {"manifest_bytes": 8, "total_bytes": 12, "pushed_ms": 5, "pushed_by": "alice"}
        | {"config_type": "ct", "type": "IMAGE", "icon": "i", "attributes": "{}", "accessory_type": "a"},
        manifests,
        (
            *("library/app", DIGEST, 42, "m", "t", "ct", "IMAGE", "i", "{}", "c", "s", 8, 12, '{"a":"b"}', 5, "alice"),
            *("a", "s", False, True),
        ),
    ),
    TAG.name: (
        tag_key("library/app", "v1"),
        {"target": {"digest": DIGEST, "immutable": True, "pushed_ms": 5, "pushed_by": "alice"}},
        tags,
        ("library/app", "v1", 42, DIGEST, True, 5, "alice"),
    ),
    BLOB.name: (
        content_key("library/app", BLOB_DIGEST),
        {"size": 4, "linked_ms": 5},
        blob_links,
        ("library/app", BLOB_DIGEST, 4, 5),
    ),
    **{
        name: (
            "library/a/b",
            {"b": {"x": [1]}, "a": True, "gone": None, "life": [1, 0, "n1", 9], **TIMES},
            documents,
            (name, "library/a/b", 42, "library", 9, "a/b", '{"a":true,"b":{"x":[1]}}', 5, 6),
        )
        for name in DOCUMENTS
    },
    ARTIFACT_LABEL.name: (
        artifact_label_key("library/app", DIGEST, "library/bug"),
        {"life": [1, 0, "n1", 9], "created_ms": 5},
        artifact_labels,
        ("library/app", DIGEST, "library/bug", 9, 5),
    ),
    PULLS.name: (
        pulls_key("library/app", DIGEST, "n1"),
        {"count": 3, "last_ms": 5, "tags": {"v1": 4}},
        pulls,
        ("library/app", DIGEST, "n1", 3, 5, '{"v1":4}'),
    ),
    PROGRESS.name: ("n1", {"applied": {"n1": 5}, "dropped": {}}, progress, ("n1", "n1", 5, 0)),
    EXECUTION.name: (
        owned_key("n1", 42),
        {"vendor_type": "RETENTION", "vendor_id": 3, "status": "Running", "trigger": "MANUAL", "dry_run": True, **TIMES},
        executions,
        ("n1", 42, "RETENTION", 3, "Running", "MANUAL", '{"dry_run":true}', 5, 6),
    ),
    TASK.name: (
        owned_key("n1", 42),
        {"vendor_type": "RETENTION", "execution_id": 3, "status": "Running", "total": 1, **TIMES},
        tasks,
        ("n1", 42, 3, "RETENTION", "Running", '{"total":1}', 5, 6),
    ),
    AUDIT.name: (
        owned_key("n1", 42),
        {"project": "library", "username": "alice", "operation": "create", "resource_type": "tag", "resource": "library/app:v1"}
        | {"description": "d", "succeeded": False, "client_address": "::1", "created_ms": 5},
        audit_records,
        ("n1", 42, 5, "library", "alice", "create", "tag", "library/app:v1", "d", False, "::1"),
    ),
}


def rows(store: Store, table: Table) -> list[tuple[Any, ...]]:
    """Return the rows of a table."""
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(select(table))]


def names(store: Store, table: Table) -> set[str]:
    """Return the names in a table whose key they are."""
    return {row[0] for row in rows(store, table)}


@pytest.mark.parametrize("name", KINDS)
def test_record_becomes_a_row_that_follows_it(store: Store, name: str) -> None:
    key, fields, table, row = CASES[name]
    kind = KINDS[name]
    with store.write() as transaction:
        transaction.create(kind, key, fields, number=42)
    assert rows(store, table) == [row]
    with store.write() as transaction:
        transaction.put(kind, key, {})
    assert rows(store, table) == [row]
    with store.write() as transaction:
        transaction.delete(kind, key)
    assert rows(store, table) == []
    with store.read() as connection:
        assert all(not left for left in derived_rows(connection).values())


# What a node has told is a row for each origin.
@pytest.mark.parametrize("name", sorted(KINDS.keys() - {PROGRESS.name}))
def test_record_without_fields_becomes_a_row_too(store: Store, name: str) -> None:
    key, _, table, _ = CASES[name]
    with store.write() as transaction:
        transaction.create(KINDS[name], key, {"target": {}} if name == TAG.name else {})
    assert len(rows(store, table)) == 1


def test_updated_time_is_the_created_one_until_something_changes(store: Store) -> None:
    with store.write() as transaction:
        transaction.create(PROJECT, "library", {"created_ms": 5})
    assert rows(store, projects) == [("library", 0, "", "{}", False, 5, 5, "")]


def test_manifest_names_its_blobs_and_children(store: Store) -> None:
    with store.write() as transaction:
        fields = manifest_fields(children=(CHILD,))
        fields["blobs"] = [[BLOB_DIGEST, 4, True], ["sha256:foreign", 9, False]]
        transaction.create(MANIFEST, content_key("library/app", DIGEST), fields)
        transaction.create(MANIFEST, content_key("library/app", CHILD), manifest_fields(blobs={"sha256:inner": 7}))
    with store.read() as connection:
        assert peers.blobs_of_manifest(connection, "library/app", DIGEST) == [(BLOB_DIGEST, 4)]
        assert peers.children_of_manifest(connection, "library/app", DIGEST) == [CHILD]
        assert peers.all_blobs_of(connection, "library/app", DIGEST) == sorted([(BLOB_DIGEST, 4), ("sha256:inner", 7)])
        assert peers.a_manifest_naming(connection, "library/app", "sha256:inner") == CHILD
        assert content.visible_blob(connection, "library/app", BLOB_DIGEST) == (4, None)
        assert content.visible_blob(connection, "library/app", "sha256:foreign") is None
        assert content.visible_blob(connection, "library/other", BLOB_DIGEST) is None
        assert content.index_naming(connection, "library/app", CHILD) == DIGEST
    with store.write() as transaction:
        transaction.delete(MANIFEST, content_key("library/app", DIGEST))
    with store.read() as connection:
        assert peers.children_of_manifest(connection, "library/app", DIGEST) == []
        assert content.visible_blob(connection, "library/app", BLOB_DIGEST) is None
        assert peers.blobs_of_manifest(connection, "library/app", CHILD) == [(Digest("sha256:inner"), 7)]


def test_index_that_names_itself_or_is_named_in_a_circle_is_read_once(store: Store) -> None:
    with store.write() as transaction:
        for digest, child in ((DIGEST, CHILD), (CHILD, DIGEST)):
            fields = manifest_fields(blobs={f"sha256:of-{digest[-4:]}": 1}, children=(child,))
            transaction.create(MANIFEST, content_key("library/app", digest), fields)
    with store.read() as connection:
        assert len(peers.all_blobs_of(connection, "library/app", DIGEST)) == 2


def test_named_blobs_are_paged_each_once(store: Store) -> None:
    blobs = {f"sha256:{number:02}": number for number in range(5)}
    with store.write() as transaction:
        for repository in ("library/a", "library/b"):
            transaction.create(MANIFEST, content_key(repository, DIGEST), manifest_fields(blobs=blobs))
        transaction.create(BLOB, content_key("library/c", "sha256:02"), {"size": 2})
        transaction.create(BLOB, content_key("library/c", "sha256:99"), {"size": 99})
    found: list[tuple[str, int]] = []
    while True:
        with store.read() as connection:
            page = peers.named_blobs_page(connection, found[-1][0] if found else "", 2)
        if not page:
            break
        found += page
    assert found == [*blobs.items(), ("sha256:99", 99)]


# -- containers live while any artifact in them does --------------------------------------------------------------------


def make_project(transaction: Transaction) -> str:
    """Make a project with a member, a robot and an image, and return the manifest's key."""
    transaction.create(USER, "alice", {}, number=1)
    transaction.create(PROJECT, "library", {"owner": "alice", "metadata.public": "true", "created_ms": 1}, number=7)
    transaction.create(MEMBER, member_key("library", "u", "alice"), {"role": 1}, number=1)
    transaction.create(ROBOT, "library+ci", {"level": "project", "project": "library"}, number=1)
    return content_key("library/app", push(transaction, b"image"))


def what_lives(connection: Connection) -> tuple[bool, bool, int, int]:
    """Return whether project and repository live, and how many members and robots are to be seen."""
    return (
        accounts.find_project(connection, "library") is not None,
        content.has_repository(connection, "library/app"),
        accounts.list_members(connection, "library")[1],
        accounts.list_robots(connection, project="library")[1],
    )


ALIVE: Final = (True, True, 1, 1)
DEAD: Final = (False, False, 0, 0)


@pytest.mark.parametrize("first", [PROJECT, REPOSITORY])
def test_dead_project_and_repository_live_while_an_artifact_in_them_does(store: Store, first: Kind) -> None:
    with store.write() as transaction:
        manifest = make_project(transaction)
        in_order = [(PROJECT, "library"), (REPOSITORY, "library/app")]
        for kind, key in in_order if first is PROJECT else reversed(in_order):
            transaction.delete(kind, key)
        transaction.delete(TAG, tag_key("library/app", "latest"))
    with store.read() as connection:
        assert what_lives(connection) == ALIVE
        project = accounts.find_project(connection, "library")
        assert project is not None
        assert (project.id, project.owner, project.public) == (7, "alice", True)
        assert accounts.is_revived(connection, "library")
    with store.write() as transaction:
        transaction.delete(MANIFEST, manifest)
    with store.read() as connection:
        # What hung on the project is out of sight with it, but was not deleted.
        assert what_lives(connection) == DEAD
        assert len(rows(store, members)) == len(rows(store, robots)) == 1
    with store.write() as transaction:
        transaction.create(MANIFEST, manifest, manifest_fields())
    with store.read() as connection:
        assert what_lives(connection) == ALIVE


def test_deleted_member_does_not_come_back_with_its_project(store: Store) -> None:
    with store.write() as transaction:
        make_project(transaction)
        transaction.delete(PROJECT, "library")
        transaction.delete(MEMBER, member_key("library", "u", "alice"))
    with store.read() as connection:
        assert what_lives(connection) == (True, True, 0, 1)


def test_project_comes_back_when_an_artifact_arrives_before_its_repository(store: Store) -> None:
    with store.write() as transaction:
        transaction.create(PROJECT, "library", {"created_ms": 1}, number=7)
        transaction.delete(PROJECT, "library")
        transaction.create(MANIFEST, content_key("library/app", DIGEST), manifest_fields())
    assert names(store, projects) == set()
    with store.write() as transaction:
        transaction.create(REPOSITORY, "library/app", {"created_ms": 1}, number=1)
    assert names(store, projects) == {"library"}
    with store.write() as transaction:
        transaction.delete(MANIFEST, content_key("library/app", DIGEST))
    assert names(store, projects) == set()


def test_artifact_of_another_project_revives_nothing(store: Store) -> None:
    with store.write() as transaction:
        make_project(transaction)
        push(transaction, b"image", repository="library2/app")
        transaction.delete(MANIFEST, content_key("library/app", digest_of(b"image")))
        transaction.delete(REPOSITORY, "library/app")
        transaction.delete(PROJECT, "library")
    assert names(store, projects) == set()
    assert names(store, repositories) == {"library2/app"}


# -- made anew ---------------------------------------------------------------------------------------------------------


def test_derived_tables_can_be_made_anew_from_the_records(store: Store) -> None:
    with store.write() as transaction:
        for name, (key, fields, _, _) in CASES.items():
            transaction.create(KINDS[name], key, fields, number=42)
        push(transaction, b"image", repository="gone/app")
        transaction.create(PROJECT, "gone", {"owner": "alice"}, number=43)
        transaction.delete(PROJECT, "gone")
        transaction.delete(REPOSITORY, "gone/app")
        transaction.put(USER, "alice", {"ids": [[1, 0, "n1", 42], [2, 0, "n2", 1001]]})
        transaction.create(USER, "bob", {}, number=44)
        transaction.delete(USER, "bob")
    with store.read() as connection:
        before = derived_rows(connection)
    assert {"projects", "repositories", "id_aliases"} <= {name for name, found in before.items() if found}
    with store.write() as transaction:
        for table in schema.metadata.sorted_tables:
            if table.info == DERIVED:
                transaction.connection.execute(table.delete())
        transaction.connection.execute(settings.insert(), {"name": "stray", "value": "1"})
    with store.write() as transaction:
        rebuild_projections(transaction.connection)
    with store.read() as connection:
        assert derived_rows(connection) == before


def test_damaged_record_does_not_keep_the_tables_from_being_made_anew(store: Store) -> None:
    with store.write() as transaction:
        for name in ("a", "b"):
            transaction.create(PROJECT, name, {"created_ms": 1})
        transaction.connection.exec_driver_sql("UPDATE records SET summary = 7 WHERE key = 'a'")
    with store.write() as transaction:
        rebuild_projections(transaction.connection)
        rows = transaction.connection.exec_driver_sql("SELECT name FROM projects").all()
    assert [row[0] for row in rows] == ["b"]
