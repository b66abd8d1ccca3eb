"""What clients were told is there stays for them, and nothing is linked whose bytes have just been collected."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.composed import Client, Node
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.catalog.contents import RENEW_AFTER_S, Contents
from twinhull.catalog.peers import NoPeers
from twinhull.kit.digest import Digest, digest_of
from twinhull.kit.errors import BlobUnknown
from twinhull.metadata import garbage
from twinhull.records.kinds import BLOB, MANIFEST, content_key

REPOSITORY = "team/app"
SECOND = "team/second"
SCOPE = f"repository:{REPOSITORY}:pull,push,delete"
OLD_MS = int(RENEW_AFTER_S * 1000) + 60_000


class VanishingBlobs(FilesystemBlobs):
    """A store from which a blob can be removed in the moment between its commit and its link."""

    vanishes = False

    def stat(self, digest: Digest) -> int | None:
        return None if self.vanishes else super().stat(digest)


@pytest.fixture
def blobs(tmp_path: Path) -> VanishingBlobs:
    return VanishingBlobs(tmp_path)


@pytest.fixture
def node(tmp_path: Path, blobs: VanishingBlobs) -> Iterator[Node]:
    made = Node(tmp_path, blobs=blobs)
    made.add_project("team")
    made.add_user("alice", team=1)
    yield made
    made.close()


@pytest.fixture
async def alice(node: Node) -> Client:
    return await node.client("alice", SCOPE, f"repository:{SECOND}:pull,push")


async def pushed(client: Client) -> Digest:
    """Push a blob that no manifest names, and return its digest."""
    content = secrets.token_bytes(500)
    assert (await client("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest_of(content)}", content)).status == 201
    return digest_of(content)


def linked_ms(node: Node, digest: Digest) -> int:
    """Return when the blob was linked last."""
    with node.store.write() as transaction:
        values = transaction.values(BLOB, content_key(REPOSITORY, digest))
    assert values is not None
    assert isinstance(values["linked_ms"], int)
    return values["linked_ms"]


def age(node: Node, digest: Digest, by_ms: int) -> int:
    """Let the blob's link be so much older, and return when it was made then."""
    before_ms = linked_ms(node, digest) - by_ms
    with node.store.write() as transaction:
        transaction.put(BLOB, content_key(REPOSITORY, digest), {"linked_ms": before_ms})
    return before_ms


async def test_blob_that_a_client_asks_for_is_kept_for_its_manifest(node: Node, alice: Client) -> None:
    digest = await pushed(alice)
    before_ms = age(node, digest, OLD_MS)

    assert (await alice("HEAD", f"/v2/{REPOSITORY}/blobs/{digest}")).status == 200

    assert linked_ms(node, digest) >= before_ms + OLD_MS
    with node.store.read() as connection:
        assert garbage.due_in_repositories(connection, node.store.clock.unix_ms(), ("", ""), 10) == []


async def test_asking_writes_nothing_for_a_young_link_or_a_blob_that_a_manifest_names(node: Node, alice: Client) -> None:
    young, named = await pushed(alice), await pushed(alice)
    age(node, named, OLD_MS)
    with node.store.write() as transaction:
        transaction.create(MANIFEST, content_key(REPOSITORY, "sha256:m"), {"blobs": [[named, 500, True]]})
    vector = node.store.vector()
    for digest in (young, named, young, named):
        assert (await alice("HEAD", f"/v2/{REPOSITORY}/blobs/{digest}")).status == 200
    assert node.store.vector() == vector


async def test_reading_a_blob_is_no_promise(node: Node, alice: Client) -> None:
    digest = await pushed(alice)
    before_ms = age(node, digest, OLD_MS)
    assert (await alice("GET", f"/v2/{REPOSITORY}/blobs/{digest}")).status == 200
    assert linked_ms(node, digest) == before_ms


async def test_mount_of_what_has_just_lost_its_name_makes_no_link(node: Node, alice: Client) -> None:
    digest = await pushed(alice)
    contents = Contents(store=node.store, blobs=node.blobs, freshness=node.freshness, executor=node.executor, peers=NoPeers())
    size = await contents.size(REPOSITORY, digest)
    with node.store.write() as transaction:
        transaction.delete(BLOB, content_key(REPOSITORY, digest))

    with pytest.raises(BlobUnknown):
        await contents.link(SECOND, digest, size, source=REPOSITORY)

    # A client that asks for it is told to send the blob.
    reply = await alice("POST", f"/v2/{SECOND}/blobs/uploads/?mount={digest}&from={REPOSITORY}")
    assert reply.status == 202
    with node.store.read() as connection:
        assert garbage.links_among(connection, [digest]) == []


async def test_blob_that_was_collected_between_its_commit_and_its_link_is_not_linked(
    node: Node, blobs: VanishingBlobs, alice: Client
) -> None:
    content = secrets.token_bytes(500)
    blobs.vanishes = True
    reply = await alice("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest_of(content)}", content)
    assert reply.status == 503
    blobs.vanishes = False
    with node.store.read() as connection:
        # Nor is it forgotten, should its bytes be there after all.
        assert garbage.candidates_after(connection, "", 10) == [digest_of(content)]
    assert (await alice("HEAD", f"/v2/{REPOSITORY}/blobs/{digest_of(content)}")).status == 404
    assert (await alice("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest_of(content)}", content)).status == 201
