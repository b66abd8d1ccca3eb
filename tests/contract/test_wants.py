"""What records name and the disk lacks is fetched, all of it, and never more than so much at a time is kept in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.blob_transfers import Node, Peer, running_node
from tests.support.metadata import manifest_fields
from tests.support.streams import until
from twinhull.kit.digest import Digest, digest_of
from twinhull.metadata import members
from twinhull.metadata.store import Store
from twinhull.records.change import Change
from twinhull.records.kinds import BLOB, MANIFEST, content_key
from twinhull.replication.protocol import INLINE_BLOB_BYTES_MAX
from twinhull.replication.wants import Wants

# Too big for the stream, so that nobody waits for them there.
SIZE = INLINE_BLOB_BYTES_MAX + 1
CONTENTS = {f"blob{number}": bytes([number]) * SIZE for number in range(40)}
DIGESTS = sorted(digest_of(content) for content in CONTENTS.values())
AT_A_TIME = 6


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node that has nothing yet."""
    async with running_node(tmp_path) as node:
        yield node


@asynccontextmanager
async def looking(store: Store, node: Node) -> AsyncIterator[Wants]:
    """Look for blobs until the block is left."""
    wants = Wants(store, node.blobs, node.transfers.backlog, executor=node.threads, wanted_max=AT_A_TIME)
    # Nothing was looked at: that all is here is not to be believed.
    assert wants.missing_blobs == wants.missing_bytes == 1
    task = asyncio.create_task(wants.look_for_ever())
    yield wants
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def name_all(store: Store) -> list[Change]:
    """Let a record name each blob; return the changes."""
    with store.write() as transaction:
        for digest in DIGESTS:
            transaction.create(BLOB, content_key("p/a", digest), {"size": SIZE, "linked_ms": 1})
    return [change for change in store.records_after("", "", 1000).records if change.kind == BLOB.name]


async def test_newcomer_gets_all_and_knows_how_much_is_still_to_come(store: Store, node: Node) -> None:
    name_all(store)
    peer = Peer("a", **CONTENTS)
    peer.going.clear()
    node.peers = [peer]
    async with looking(store, node) as wants:
        await until(lambda: wants.missing_blobs == len(CONTENTS))
        assert wants.missing_bytes == len(CONTENTS) * SIZE
        most = node.transfers.backlog.blobs
        peer.going.set()
        while wants.missing_blobs:
            most = max(most, node.transfers.backlog.blobs)
            await asyncio.sleep(0)
        assert wants.missing_bytes == 0
    assert {node.blobs.stat(digest) for digest in DIGESTS} == {SIZE}
    assert most == AT_A_TIME
    assert len(peer.asked) == len(CONTENTS), "a blob was asked for twice"


async def test_what_records_name_while_there_is_no_room_is_fetched_later(store: Store, node: Node) -> None:
    async with looking(store, node) as wants:
        await until(lambda: wants.missing_blobs == 0)
        node.peers = [Peer("a", **CONTENTS)]
        for change in name_all(store):
            wants.named_by(change)
        assert node.transfers.backlog.blobs == AT_A_TIME
        assert wants.missing_blobs >= AT_A_TIME
        await until(lambda: wants.missing_blobs == 0)
    assert {node.blobs.stat(digest) for digest in DIGESTS} == {SIZE}


async def test_what_no_peer_has_keeps_nobody_from_the_rest(store: Store, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinhull.replication.backlog._FAILING_MAX", 2)
    lost = set(DIGESTS[:20])
    name_all(store)
    node.peers = [Peer("a", **{name: content for name, content in CONTENTS.items() if digest_of(content) not in lost})]
    async with looking(store, node) as wants:
        await until(lambda: all(node.blobs.stat(digest) == SIZE for digest in DIGESTS[20:]))
        assert wants.missing_blobs > 0
        # Somebody has them again.
        node.peers = [Peer("b", **CONTENTS)]
        node.transfers.backlog.retry_now()
        await until(lambda: wants.missing_blobs == 0)
    assert {node.blobs.stat(digest) for digest in DIGESTS} == {SIZE}


def test_named_blobs_come_in_pages_each_once_with_its_size(store: Store) -> None:
    digests = ["sha256:" + f"{number:064}" for number in range(12)]
    with store.write() as transaction:
        for repository in ("p/a", "p/b"):
            for first in range(0, 8, 2):
                fields = manifest_fields(blobs={digests[first]: first + 1, digests[first + 1]: first + 2, digests[10]: 11})
                key = content_key(repository, "sha256:" + f"{first + 100:064}")
                transaction.create(MANIFEST, key, fields, number=transaction.next_id(MANIFEST))
        for number in (1, 8, 9, 10):
            transaction.create(BLOB, content_key("p/c", digests[number]), {"size": number + 1, "linked_ms": 1})
    found: list[tuple[Digest, int]] = []
    with store.read() as connection:
        while page := members.named_blobs_page(connection, found[-1][0] if found else "", 3):
            assert len(page) <= 3
            found += page
    assert found == [(digests[number], number + 1) for number in range(11)]
