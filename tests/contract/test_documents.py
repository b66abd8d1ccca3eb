"""Documents, labels on artifacts, executions and audit records are written and read alike on both databases."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.metadata import exchange
from twinhull.catalog.audit import Deed, record_deed
from twinhull.catalog.documents import (
    NUMBERED,
    Documents,
    attach_label,
    change_document,
    create_document,
    delete_document,
    detach_all_labels,
    detach_label,
    existing_document,
    rename_document,
    set_document,
)
from twinhull.jobs.executions import begin_execution, begin_task, tell_of
from twinhull.kit.clock import ManualClock
from twinhull.kit.errors import Conflict, NotFound, ProjectUnknown
from twinhull.metadata import documents as queries
from twinhull.metadata.audit import list_audit_records, records_before
from twinhull.metadata.executions import find_execution, find_task, list_executions, list_tasks
from twinhull.metadata.filtering import Exact, Fuzzy, Slice, Wanted
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.records.change import Change
from twinhull.records.kinds import (
    EXECUTION,
    LABEL,
    PROJECT,
    PULLS,
    REGISTRY,
    RETENTION,
    SCHEDULE,
    WEBHOOK,
    document_key,
    pulls_key,
)

IMAGE = "sha256:" + "0" * 64
OTHER = "sha256:" + "1" * 64
APP = "library/app"


def read(store: Store, query: Callable[..., Any], *given: object, **named: object) -> Any:  # noqa: ANN401 - what the query says
    with store.read() as connection:
        return query(connection, *given, **named)


def make_project(transaction: Transaction, name: str = "library") -> int:
    number = transaction.next_id(PROJECT)
    transaction.create(PROJECT, name, {"created_ms": 1}, number=number)
    return number


def in_one(store: Store, *changes: Callable[[Transaction], object]) -> None:
    """Make changes in one transaction."""
    with store.write() as transaction:
        for change in changes:
            change(transaction)


def names(store: Store, *given: object, **named: object) -> list[str]:
    return [document.name for document in read(store, queries.list_documents, *given, **named)[0]]


def test_document_is_created_changed_and_deleted(store: Store, clock: ManualClock) -> None:
    with store.write() as transaction:
        number = create_document(transaction, REGISTRY, {"url": "https://a", "type": "harbor", "insecure": False}, name="hub")
        with pytest.raises(Conflict, match="hub"):
            create_document(transaction, REGISTRY, {}, name="hub")
    made = read(store, queries.find_by_id, REGISTRY, number)
    assert (made.name, made.project, made.fields["url"], made.created_ms) == ("hub", "", "https://a", clock.unix_ms())
    clock.advance(1)
    with store.write() as transaction:
        change_document(transaction, REGISTRY, number, {"url": "https://b", "type": "harbor", "insecure": None})
    changed = read(store, queries.find, REGISTRY, document_key("", "hub"))
    assert (changed.fields, changed.created_ms) == ({"url": "https://b", "type": "harbor"}, made.created_ms)
    assert changed.updated_ms == clock.unix_ms()
    with store.write() as transaction:
        assert delete_document(transaction, REGISTRY, number) == number
        for refused in (change_document, delete_document):
            with pytest.raises(NotFound, match=f"registry {number} not found"):
                refused(transaction, REGISTRY, number, *([{}] if refused is change_document else []))
    assert read(store, queries.find_by_id, REGISTRY, number) is None


def test_field_that_stays_the_same_is_not_written_and_cannot_win_over_another_nodes(store: Store) -> None:
    with store.write() as transaction:
        number = create_document(transaction, REGISTRY, {"url": "u", "type": "t"}, name="hub")
    before = store.position()
    with store.write() as transaction:
        change_document(transaction, REGISTRY, number, {"url": "u", "description": None})
    assert store.position() == before


def test_documents_of_a_kind_are_listed_filtered_and_cut(store: Store) -> None:
    with store.write() as transaction:
        make_project(transaction)
        for name in ("b", "a", "Bee"):
            create_document(transaction, LABEL, {"color": "#fff"}, name=name)
        create_document(transaction, LABEL, {}, project="library", name="b")
        create_document(transaction, SCHEDULE, {}, name="gc")
        with pytest.raises(ProjectUnknown, match="nowhere"):
            create_document(transaction, LABEL, {}, project="nowhere", name="b")
    assert names(store, LABEL) == ["Bee", "a", "b", "b"]
    assert names(store, LABEL, project="") == ["Bee", "a", "b"]
    assert names(store, LABEL, project="library") == ["b"]
    fuzzy = Wanted(conditions={"name": Fuzzy("b")}, order=[("id", True)])
    assert names(store, LABEL, project="", wanted=fuzzy) == ["Bee", "b"]
    assert names(store, LABEL, wanted=Wanted(conditions={"name": Exact("a")})) == ["a"]
    listed, total = read(store, queries.list_documents, LABEL, part=Slice(offset=1, limit=2))
    assert ([one.name for one in listed], total) == (["a", "b"], 4)


def test_what_a_project_has_one_of_is_set_and_what_has_no_name_is_numbered(store: Store) -> None:
    with store.write() as transaction:
        make_project(transaction)
        first = set_document(transaction, RETENTION, {"rules": [1]}, project="library")
        assert set_document(transaction, RETENTION, {"rules": [2]}, project="library") == first
        number = create_document(transaction, WEBHOOK, {}, project="library", name=NUMBERED)
    assert read(store, queries.find_by_id, RETENTION, first).fields == {"rules": [2]}
    assert read(store, queries.find_by_id, WEBHOOK, number).key == f"library/{number}"


def test_renamed_document_keeps_its_id_and_what_is_attached_to_it(store: Store) -> None:
    with store.write() as transaction:
        number = create_document(transaction, LABEL, {"color": "#fff"}, name="bug")
        create_document(transaction, LABEL, {}, name="taken")
        attach_label(transaction, APP, IMAGE, existing_document(transaction, LABEL, number))
        with pytest.raises(Conflict, match="taken"):
            rename_document(transaction, LABEL, number, "taken")
        rename_document(transaction, LABEL, number, "defect")
        rename_document(transaction, LABEL, number, "defect")
    renamed = read(store, queries.find_by_id, LABEL, number)
    assert (renamed.name, renamed.fields) == ("defect", {"color": "#fff"})
    assert [label.name for label in read(store, queries.labels_of, APP, [IMAGE])[IMAGE]] == ["defect"]
    with store.write() as transaction:
        with pytest.raises(Conflict, match="already added"):
            attach_label(transaction, APP, IMAGE, renamed)
        assert detach_label(transaction, APP, IMAGE, renamed)
        assert not detach_label(transaction, APP, IMAGE, renamed)
    assert read(store, queries.labels_of, APP, [IMAGE]) == {}


def test_attachments_go_with_their_label_and_do_not_come_back_with_one_of_its_name(store: Store) -> None:
    with store.write() as transaction:
        number = create_document(transaction, LABEL, {}, name="bug")
        for digest in (IMAGE, OTHER):
            attach_label(transaction, APP, digest, existing_document(transaction, LABEL, number))
        delete_document(transaction, LABEL, number)
    assert read(store, queries.labels_of, APP, [IMAGE, OTHER]) == {}
    with store.write() as transaction:
        anew = create_document(transaction, LABEL, {}, name="bug")
        attach_label(transaction, APP, OTHER, existing_document(transaction, LABEL, anew))
    assert {*read(store, queries.labels_of, APP, [IMAGE, OTHER])} == {OTHER}
    with store.write() as transaction:
        detach_all_labels(transaction, APP, OTHER)
    assert read(store, queries.labels_of, APP, [OTHER]) == {}


def test_documents_go_with_their_project_and_only_those_come_back_that_were_not_deleted(store: Store) -> None:
    with store.write() as transaction:
        make_project(transaction)
        kept, gone = (create_document(transaction, LABEL, {}, project="library", name=name) for name in ("kept", "gone"))
        create_document(transaction, LABEL, {}, name="everywhere")
        delete_document(transaction, LABEL, gone)
        old = transaction.values(PROJECT, "library")
        transaction.delete(PROJECT, "library")
    assert names(store, LABEL) == ["everywhere"]
    assert read(store, queries.find_by_id, LABEL, kept) is None
    with store.write() as transaction:
        assert old is not None
        transaction.create(PROJECT, "library", old)
    assert names(store, LABEL, project="library") == ["kept"]


def test_label_that_was_hung_on_the_old_project_elsewhere_is_not_in_the_new_one(store: Store, peer: Store) -> None:
    with store.write() as transaction:
        make_project(transaction)
    exchange(store, peer)
    with store.write() as transaction:
        transaction.delete(PROJECT, "library")
        make_project(transaction)
        create_document(transaction, LABEL, {"color": "new"}, project="library", name="both")
    with peer.write() as transaction:
        for name in ("late", "both"):
            create_document(transaction, LABEL, {"color": "old"}, project="library", name=name)
    exchange(store, peer)
    for node in (store, peer):
        assert names(node, LABEL) == ["both"]
    # And its name is free.
    with peer.write() as transaction:
        create_document(transaction, LABEL, {"color": "newer"}, project="library", name="late")
    exchange(store, peer)
    assert names(store, LABEL) == ["both", "late"]


def test_document_made_on_both_sides_is_found_by_both_ids_with_all_that_was_attached(store: Store, peer: Store) -> None:
    numbers = []
    for node in (store, peer):
        with node.write() as transaction:
            make_project(transaction)
            numbers.append(create_document(transaction, LABEL, {}, project="library", name="bug"))
            label = existing_document(transaction, LABEL, numbers[-1])
            attach_label(transaction, APP, IMAGE if node is store else OTHER, label)
    exchange(store, peer)
    assert numbers[0] != numbers[1]
    for node in (store, peer):
        first, second = (read(node, queries.find_by_id, LABEL, number) for number in numbers)
        assert first == second
        assert first.id == numbers[0]
        assert read(node, queries.ids_of, first) == numbers
        assert read(node, queries.find_by_ids, LABEL, [*numbers, 77]) == dict.fromkeys(numbers, first)
        assert {*read(node, queries.labels_of, APP, [IMAGE, OTHER])} == {IMAGE, OTHER}
        with node.write() as transaction, pytest.raises(Conflict):
            attach_label(transaction, APP, OTHER, first)
    with store.write() as transaction:
        assert detach_label(transaction, APP, OTHER, existing_document(transaction, LABEL, numbers[1]))


def test_pulls_of_all_nodes_are_added_up(store: Store) -> None:
    with store.write() as transaction:
        for digest, node, count, last_ms in ((IMAGE, "n1", 2, 9), (IMAGE, "n2", 3, 7), ("", "n1", 5, 9)):
            transaction.create(PULLS, pulls_key(APP, digest, node), {"count": count, "last_ms": last_ms})
    assert read(store, queries.pulls_of, APP, [IMAGE, OTHER]) == {IMAGE: queries.PullCount(pulls=5, last_ms=9)}
    assert read(store, queries.pulls_of_repositories, [APP, "x"]) == {APP: queries.PullCount(pulls=5, last_ms=9)}


def test_executions_and_tasks_are_written_by_their_node_alone(store: Store, clock: ManualClock) -> None:
    told: dict[str, Any] = {"vendor_type": "RETENTION", "vendor_id": 7, "trigger": "MANUAL", "status": "Running", "fields": {}}
    with store.write() as transaction:
        number = begin_execution(transaction, **told)
        task = begin_task(transaction, number, vendor_type="RETENTION", status="Running", fields={"total": 3})
        clock.advance(1)
        later = begin_execution(transaction, **{**told, "vendor_id": 8, "status": "Stopped"})
        tell_of(transaction, EXECUTION, number, {"status": "Success", "end_ms": 5})
        with pytest.raises(NotFound, match="execution 77 not found on node n1"):
            tell_of(transaction, EXECUTION, 77, {})
    found = read(store, find_execution, number)
    assert (found.node, found.status, found.fields) == ("n1", "Success", {"end_ms": 5})
    assert read(store, find_execution, 77) is None
    assert [one.id for one in read(store, list_executions, vendor_type="RETENTION")[0]] == [later, number]
    assert [one.id for one in read(store, list_executions, vendor_type="RETENTION", vendor_id=7)[0]] == [number]
    wanted = Wanted(conditions={"status": Exact("Stopped")})
    assert [one.id for one in read(store, list_executions, wanted=wanted)[0]] == [later]
    assert [(one.id, one.fields) for one in read(store, list_tasks, execution=number)[0]] == [(task, {"total": 3})]
    assert read(store, list_tasks)[1] == 1
    assert read(store, find_task, task).execution_id == number


def test_deed_is_recorded_with_what_was_done_or_not_at_all(store: Store, clock: ManualClock) -> None:
    with store.write() as transaction:
        for project, operation in (("library", "create"), ("", "delete")):
            deed = Deed(username="alice", operation=operation, resource_type="project", resource="p", project=project)
            record_deed(transaction, deed)
            clock.advance(1)
    with pytest.raises(NotFound):
        in_one(
            store,
            lambda inside: record_deed(
                inside, Deed(username="alice", operation="update", resource_type="registry", resource="p")
            ),
            lambda inside: change_document(inside, REGISTRY, 77, {}),
        )
    found, total = read(store, list_audit_records)
    assert ([one.operation for one in found], total) == (["delete", "create"], 2)
    assert [one.operation for one in read(store, list_audit_records, projects=["library"])[0]] == ["create"]
    wanted = Wanted(conditions={"operation": Exact("delete")})
    assert read(store, list_audit_records, wanted=wanted, counted=False) == ([found[0]], 0)
    [old] = read(store, records_before, found[0].at_ms, after=(-1, -1, ""), limit=9)
    assert (old.node, old.id, old.operation, old.resource_type) == ("n1", found[1].id, "create", "project")
    assert read(store, records_before, found[0].at_ms, after=old.place, limit=9) == []
    assert len(read(store, records_before, found[0].at_ms + 1, after=(-1, -1, ""), limit=9)) == 2


async def test_change_is_carried_out_in_a_thread_and_says_what_to_wait_for(store: Store) -> None:
    with ThreadPoolExecutor(1) as executor:
        documents = Documents(store=store, executor=executor)
        number, seq = await documents.create(REGISTRY, {"url": "a"}, name="hub")
        assert seq == store.vector()["n1"]
        assert (await documents.set(REGISTRY, {"url": "b"}, name="hub")).id == number
        assert (await documents.change(REGISTRY, number, {"url": "b"})).seq == 0
        assert (await documents.delete(REGISTRY, number)).seq == store.vector()["n1"]


def test_conflict_between_secrets_shows_none(store: Store, peer: Store) -> None:
    with store.write() as transaction:
        number = create_document(transaction, REGISTRY, {"access_secret": "old"}, name="hub")
    exchange(store, peer)
    for node, secret in ((store, "mine"), (peer, "theirs")):
        with node.write() as transaction:
            change_document(transaction, REGISTRY, number, {"access_secret": secret})
    exchange(store, peer)
    with store.read() as connection:
        rows = [str(row) for row in connection.exec_driver_sql("SELECT * FROM conflicts")]
    assert len(rows) == 1
    assert "access_secret" in rows[0]
    assert "mine" not in rows[0]
    assert "theirs" not in rows[0]


def test_change_of_an_unheard_of_shape_becomes_a_row_all_the_same(store: Store, peer: Store) -> None:
    with peer.write() as transaction:
        transaction.create(LABEL, "/odd", {"ids": "x", "life": "y", "created_ms": "z", "color": b"\x00"})
    change = peer.record(LABEL.name, "/odd")
    assert isinstance(change, Change)
    with store.write() as transaction:
        assert transaction.merge_record(change)
    assert names(store, LABEL) == ["odd"]
