"""Which of what happens on a node begins replications, and of what; nothing else is written."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from tests.support.metadata import exchange, manifest_fields, push
from twinhull.catalog.audit import TAGS_NOTED_MAX, note, note_artifact, note_content
from twinhull.catalog.documents import attach_label, create_document, existing_document
from twinhull.jobs.access import Access
from twinhull.jobs.reader import LogReader
from twinhull.metadata.executions import list_executions, list_tasks
from twinhull.metadata.store import Store
from twinhull.metadata.transaction import Transaction
from twinhull.mirror.events import reader_of_events
from twinhull.records.kinds import LABEL, MANIFEST, PROJECT, REPLICATION_POLICY, TAG, content_key, tag_key

APP: Final = "team/app"


class Scene:
    """A store with a reader of its log."""

    def __init__(self, store: Store) -> None:
        self.store = store
        with store.write() as transaction:
            transaction.create(PROJECT, "team", {"owner": "admin"})

    async def begin(self) -> LogReader:
        """Return the reader after its first look, from which on everything counts."""
        reader = reader_of_events(Access(self.store, ThreadPoolExecutor(1), lambda _: None))
        await _read_all(reader)
        return reader

    def policy(self, name: str = "out", filters: Mapping[str, object] | None = None, **fields: object) -> None:
        """Make an event based policy, unless the fields say otherwise."""
        given = [{"type": kind, "value": value} for kind, value in (filters or {"name": "team/**"}).items()]
        told = {"enabled": True, "dest_registry_id": 7, "trigger": {"type": "event_based"}, "filters": given, **fields}
        with self.store.write() as transaction:
            create_document(transaction, REPLICATION_POLICY, told, name=name)

    def pushed(self, text: str, tag: str) -> str:
        """Push a manifest as the catalog does, and return its digest."""
        with self.store.write() as transaction:
            digest = push(transaction, text.encode(), repository=APP, tag=tag)
            note_artifact(transaction, "create", APP, digest, named=tag, tag=tag)
        return digest

    def tasks(self) -> list[dict[str, Any]]:
        """Return what has been begun, oldest first."""
        with self.store.read() as connection:
            found, _ = list_tasks(connection)
            executions, _ = list_executions(connection)
        assert {one.trigger for one in executions} <= {"EVENT"}
        assert len(executions) == len(found)
        return [dict(one.fields) for one in sorted(found, key=lambda one: one.id)]

    def items(self) -> list[tuple[str, str, list[str]]]:
        """Return operation, digest and tags of each item."""
        return [(one["operation"], it["digest"], it["tags"]) for one in self.tasks() for it in one["items"]]


async def _read_all(reader: LogReader) -> None:
    while await reader.work() is not None:
        pass


@pytest.fixture
def scene(store: Store) -> Scene:
    return Scene(store)


async def test_a_push_begins_one_task_for_that_tag_of_that_digest(scene: Scene) -> None:
    scene.policy(dest_namespace="mirror")
    reader = await scene.begin()
    scene.pushed("one", "other")
    digest = scene.pushed("one", "v1")
    await _read_all(reader)
    assert scene.items() == [("copy", digest, ["other"]), ("copy", digest, ["v1"])]
    assert scene.tasks()[1] | {"items": None} == {
        "operation": "copy",
        "resource_type": "artifact",
        "src_resource": "team/app [1 item(s) in total]",
        "dst_resource": "mirror/app [1 item(s) in total]",
        "source": APP,
        "destination": "mirror/app",
        "lane": scene.tasks()[0]["lane"],
        "items": None,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"enabled": False},
        {"trigger": {"type": "manual"}},
        {"dest_registry_id": 0, "src_registry_id": 7},
        {"filters": {"name": "other/**"}},
        {"filters": {"tag": "release-*"}},
        {"filters": {"label": ["signed off"]}},
        {"filters": {"resource": "chart"}},
    ],
)
async def test_nothing_begins_where_no_policy_picks_it(scene: Scene, fields: dict[str, Any]) -> None:
    scene.policy(**fields)
    reader = await scene.begin()
    with scene.store.write() as transaction:
        digest = push(transaction, b"one", repository=APP, tag="v1")
        transaction.put(MANIFEST, content_key(APP, digest), {"type": "IMAGE"})
        note_artifact(transaction, "create", APP, digest, named="v1", tag="v1")
    before = scene.store.position()
    await _read_all(reader)
    assert scene.tasks() == []
    assert scene.store.position() == before


async def test_a_label_is_looked_for_when_the_event_is_read(scene: Scene) -> None:
    scene.policy(filters={"label": ["signed off"]})
    reader = await scene.begin()
    digest = scene.pushed("one", "v1")
    with scene.store.write() as transaction:
        label = existing_document(transaction, LABEL, create_document(transaction, LABEL, {}, name="signed off"))
        attach_label(transaction, APP, digest, label)
    await _read_all(reader)
    assert scene.items() == [("copy", digest, ["v1"])]


async def test_pulls_and_other_deeds_begin_nothing(scene: Scene) -> None:
    scene.policy(deletion=True)
    reader = await scene.begin()
    with scene.store.write() as transaction:
        digest = push(transaction, b"one", repository=APP, tag="v1")
        note_artifact(transaction, "pull", APP, digest, named="v1", tag="v1")
        note(transaction, "create", "member", "somebody", project="team")
        note_content(transaction, "delete", "repository", APP)
    await _read_all(reader)
    assert scene.tasks() == []


async def test_what_another_node_did_is_for_that_node(scene: Scene, peer: Store) -> None:
    scene.policy()
    reader = await scene.begin()
    exchange(peer, scene.store)
    with peer.write() as transaction:
        digest = push(transaction, b"one", repository=APP, tag="v1")
        note_artifact(transaction, "create", APP, digest, named="v1", tag="v1")
    exchange(scene.store, peer)
    await _read_all(reader)
    assert scene.tasks() == []


async def test_a_signature_brings_what_it_signs_with_its_tags(scene: Scene) -> None:
    scene.policy(filters={"tag": "v*"})
    reader = await scene.begin()
    with scene.store.write() as transaction:
        digest = push(transaction, b"one", repository=APP, tag="v1")
        fields = {**manifest_fields(), "subject": digest, "accessory_type": "signature.notation"}
        transaction.create(MANIFEST, content_key(APP, "sha256:" + "5" * 64), fields, number=99)
        note_artifact(transaction, "create", APP, "sha256:" + "5" * 64)
    await _read_all(reader)
    assert scene.items() == [("copy", digest, ["v1"])]


async def test_an_artifact_that_was_copied_here_goes_with_all_its_tags(scene: Scene) -> None:
    scene.policy(filters={"tag": "v*"})
    reader = await scene.begin()
    with scene.store.write() as transaction:
        digest = push(transaction, b"one", repository=APP, tag="v1")
        _tag(transaction, digest, "v2")
        _tag(transaction, digest, "latest")
        note_artifact(transaction, "create", APP, digest, tag="v1")
    await _read_all(reader)
    assert scene.items() == [("copy", digest, ["v1", "v2"])]


async def test_deletions_begin_only_where_the_policy_has_them(scene: Scene) -> None:
    scene.policy("with", deletion=True, filters={"tag": "v*"})
    scene.policy("without", filters={"tag": "v*"})
    reader = await scene.begin()
    digest = "sha256:" + "a" * 64
    with scene.store.write() as transaction:
        note_content(transaction, "delete", "tag", APP, "v1")
        note_content(transaction, "delete", "tag", APP, "latest")
        note_artifact(transaction, "delete", APP, digest, tags=["latest", "v1"])
        note_artifact(transaction, "delete", APP, "sha256:" + "b" * 64, tags=["latest"])
        note_artifact(transaction, "delete", APP, "sha256:" + "c" * 64, tags=[])
    await _read_all(reader)
    assert scene.items() == [("deletion", "", ["v1"]), ("deletion", digest, [])]


async def test_a_deletion_of_which_the_tags_are_not_known_goes_everywhere(scene: Scene) -> None:
    scene.policy(deletion=True, filters={"tag": "v*"})
    reader = await scene.begin()
    digest = "sha256:" + "a" * 64
    with scene.store.write() as transaction:
        note_artifact(transaction, "delete", APP, digest, tags=[f"t{number}" for number in range(TAGS_NOTED_MAX + 1)])
    await _read_all(reader)
    assert scene.items() == [("deletion", digest, [])]


async def test_what_is_gone_before_its_event_is_read_begins_nothing(scene: Scene) -> None:
    scene.policy()
    reader = await scene.begin()
    digest = scene.pushed("one", "v1")
    with scene.store.write() as transaction:
        transaction.delete(TAG, tag_key(APP, "v1"))
        transaction.delete(MANIFEST, content_key(APP, digest))
    await _read_all(reader)
    assert scene.tasks() == []


async def test_a_name_that_can_not_be_replaced_holds_up_no_other_policy(scene: Scene) -> None:
    scene.policy("impossible", dest_namespace="mirror", dest_namespace_replace_count=5)
    scene.policy("possible", dest_namespace="mirror", dest_namespace_replace_count=0)
    reader = await scene.begin()
    scene.pushed("one", "v1")
    await _read_all(reader)
    assert [one["destination"] for one in scene.tasks()] == ["mirror/team/app"]


def _tag(transaction: Transaction, digest: str, tag: str) -> None:
    target = {"digest": digest, "immutable": False, "pushed_ms": transaction.now_ms(), "pushed_by": "admin"}
    transaction.create(TAG, tag_key(APP, tag), {"target": target}, number=transaction.next_id(TAG))
