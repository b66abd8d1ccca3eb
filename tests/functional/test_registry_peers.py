"""What the data plane does when another node has what this one lacks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.composed import Client, Node, Reply
from twinhull.catalog.media import OCI_IMAGE
from twinhull.catalog.peers import BlobSource
from twinhull.kit.digest import Digest, digest_of
from twinhull.kit.errors import PeerUnavailable
from twinhull.metadata.store import Store
from twinhull.records.kinds import BLOB, MANIFEST, TAG, content_key, tag_key
from twinhull.registry.blobs import PIECE_BYTES
from twinhull.web.asgi import Receive, Scope, Send

REPOSITORY = "team/app"
SCOPE = f"repository:{REPOSITORY}:pull,push,delete"
LAYER = bytes(range(256)) * (PIECE_BYTES // 128)


class Arriving:
    """A blob that comes in pieces of an awkward length, and may break off."""

    def __init__(self, content: bytes, breaks_at: int | None) -> None:
        self._content = content
        self._breaks_at = breaks_at
        self.closed = False

    async def read(self, start: int, length: int) -> bytes:
        await asyncio.sleep(0)
        if self._breaks_at is not None and start >= self._breaks_at:
            raise PeerUnavailable
        return self._content[start : start + min(length, 100_003)]

    async def close(self) -> None:
        self.closed = True


class OtherNode:
    """A peer with metadata and blobs of its own, as this node's agent would ask it."""

    def __init__(self, store: Store) -> None:
        self.theirs = store
        self.ours: Store | None = None
        self.behind = False
        self.asked: list[str] = []
        self.blobs: dict[str, bytes] = {}
        self.breaks_at: int | None = None
        self.sources: list[Arriving] = []

    def is_behind(self) -> bool:
        return self.behind

    async def find(self, kind: str, key: str) -> bool:
        self.asked.append(f"{kind} {key}")
        change = self.theirs.record(kind, key)
        if change is None or self.ours is None:
            return False
        with self.ours.write() as transaction:
            return transaction.merge_record(change)

    async def settle(self) -> None:
        if self.behind and self.ours is not None:
            with self.ours.write() as transaction:
                for record in self.theirs.records_after("", "", 1000).records:
                    transaction.merge_record(record)
        self.behind = False

    async def blob_source(self, repository: str, digest: Digest, size: int) -> BlobSource:
        if digest not in self.blobs:
            raise PeerUnavailable
        source = Arriving(self.blobs[digest], self.breaks_at)
        self.sources.append(source)
        return source


class Relayed:
    """A way to other nodes that notes what was sent along it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str, bytes]] = []

    async def __call__(self, node: str, caller_name: str, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.calls.append((node, caller_name, f"{scope['method']} {scope['path']}", body))
        await send({"type": "http.response.start", "status": 202, "headers": [(b"range", b"0-9")]})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "elsewhere", name="node2", slot=1)
    yield made
    made.close()


@pytest.fixture
def other(elsewhere: Node) -> OtherNode:
    return OtherNode(elsewhere.store)


@pytest.fixture
def relay() -> Relayed:
    return Relayed()


@pytest.fixture
def node(tmp_path: Path, other: OtherNode, relay: Relayed) -> Iterator[Node]:
    made = Node(tmp_path / "here", peers=other, relay=relay)
    other.ours = made.store
    made.add_project("team")
    made.add_user("alice", team=1)
    made.add_user("guest", team=3)
    yield made
    made.close()


@pytest.fixture
async def alice(node: Node) -> Client:
    return await node.client("alice", SCOPE)


def manifest(number: int = 0) -> bytes:
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2}
    layer = {"mediaType": "application/octet-stream", "digest": digest_of(LAYER), "size": len(LAYER)}
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": config,
        "layers": [layer],
        "annotations": {"n": str(number)},
    }
    return json.dumps(document).encode()


def write_manifest(node: Node, pushed: bytes, tag: str) -> None:
    """Write what a push to that node leaves behind."""
    digest = digest_of(pushed)
    with node.store.write() as transaction:
        transaction.put_content(digest, pushed)
        fields = {
            "media_type": OCI_IMAGE,
            "artifact_type": "",
            "manifest_bytes": len(pushed),
            "blobs": [[digest_of(b"{}"), 2, True], [digest_of(LAYER), len(LAYER), True]],
        }
        if transaction.values(MANIFEST, content_key(REPOSITORY, digest)) is None:
            transaction.create(MANIFEST, content_key(REPOSITORY, digest), fields)
        key, target = tag_key(REPOSITORY, tag), {"target": {"digest": digest, "immutable": False}}
        if transaction.values(TAG, key) is None:
            transaction.create(TAG, key, target)
        else:
            transaction.put(TAG, key, target)


async def get(client: Client, reference: str, method: str = "GET") -> Reply:
    return await client(method, f"/v2/{REPOSITORY}/manifests/{reference}")


class TestAskingBeforeSayingNo:
    async def test_a_tag_that_another_node_has_is_served(self, elsewhere: Node, alice: Client) -> None:
        write_manifest(elsewhere, manifest(), "v1")
        reply = await get(alice, "v1")
        assert (reply.status, reply.body) == (200, manifest())

    async def test_a_digest_that_another_node_has_is_served(self, elsewhere: Node, alice: Client) -> None:
        write_manifest(elsewhere, manifest(), "v1")
        assert (await get(alice, digest_of(manifest()), "HEAD")).status == 200

    async def test_what_nobody_has_is_unknown(self, alice: Client, other: OtherNode) -> None:
        assert (await get(alice, "v1")).code == "MANIFEST_UNKNOWN"
        assert other.asked == [f"tag {REPOSITORY}:v1"]

    async def test_what_is_here_is_not_asked_for(self, node: Node, alice: Client, other: OtherNode) -> None:
        write_manifest(node, manifest(), "v1")
        for _ in range(3):
            assert (await get(alice, "v1")).status == 200
        assert other.asked == []

    async def test_a_node_that_is_behind_never_shows_an_older_tag(
        self, node: Node, elsewhere: Node, alice: Client, other: OtherNode
    ) -> None:
        write_manifest(node, manifest(1), "v1")
        await other_learns(elsewhere, node, "v1", manifest(1))
        write_manifest(elsewhere, manifest(2), "v1")
        assert (await get(alice, "v1")).body == manifest(1)
        other.behind = True
        assert (await get(alice, "v1")).body == manifest(2)
        other.behind = False
        assert (await get(alice, "v1")).body == manifest(2)

    async def test_blobs_of_one_push_may_have_gone_to_another_node(self, elsewhere: Node, alice: Client) -> None:
        for blob in (b"{}", LAYER):
            with elsewhere.store.write() as transaction:
                transaction.create(BLOB, content_key(REPOSITORY, digest_of(blob)), {"size": len(blob), "linked_ms": 1})
        assert (await alice("HEAD", f"/v2/{REPOSITORY}/blobs/{digest_of(b'{}')}"))["content-length"] == "2"
        pushed = await alice("PUT", f"/v2/{REPOSITORY}/manifests/v1", manifest(), content_type=OCI_IMAGE)
        assert pushed.status == 201

    async def test_a_tag_that_another_node_has_can_be_deleted(self, elsewhere: Node, alice: Client) -> None:
        write_manifest(elsewhere, manifest(), "v1")
        assert (await get(alice, "v1", "DELETE")).status == 202
        assert (await get(alice, "v2", "DELETE")).status == 404

    async def test_a_list_waits_until_the_node_has_what_others_have_acknowledged(
        self, elsewhere: Node, alice: Client, other: OtherNode
    ) -> None:
        elsewhere.add_project("team")
        write_manifest(elsewhere, manifest(), "theirs")
        other.behind = True
        assert json.loads((await alice("GET", f"/v2/{REPOSITORY}/tags/list")).body)["tags"] == ["theirs"]


class TestFetchThrough:
    async def test_a_blob_that_has_not_arrived_is_passed_through(self, node: Node, alice: Client, other: OtherNode) -> None:
        write_manifest(node, manifest(), "v1")
        other.blobs[digest_of(LAYER)] = LAYER
        url = f"/v2/{REPOSITORY}/blobs/{digest_of(LAYER)}"
        assert (await alice("HEAD", url))["content-length"] == str(len(LAYER))
        assert other.sources == []
        whole = await alice("GET", url)
        assert (whole.status, whole.body) == (200, LAYER)
        assert whole["content-length"] == str(len(LAYER))
        part = await alice("GET", url, range="bytes=1000-300000")
        assert (part.status, part.body) == (206, LAYER[1000:300001])
        assert [source.closed for source in other.sources] == [True, True]

    async def test_a_transfer_that_breaks_off_cuts_the_answer(self, node: Node, alice: Client, other: OtherNode) -> None:
        write_manifest(node, manifest(), "v1")
        other.blobs[digest_of(LAYER)] = LAYER
        other.breaks_at = 200_006
        with pytest.raises(PeerUnavailable):
            await alice("GET", f"/v2/{REPOSITORY}/blobs/{digest_of(LAYER)}")
        assert other.sources[0].closed

    async def test_nothing_is_fetched_for_a_client_that_left(self, node: Node, alice: Client, other: OtherNode) -> None:
        write_manifest(node, manifest(), "v1")
        other.blobs[digest_of(LAYER)] = LAYER
        reply = await alice("GET", f"/v2/{REPOSITORY}/blobs/{digest_of(LAYER)}", leaves=True)
        assert len(reply.body) < len(LAYER)
        assert other.sources[0].closed

    async def test_bytes_that_nobody_has_now_are_no_404(self, node: Node, alice: Client) -> None:
        write_manifest(node, manifest(), "v1")
        reply = await alice("GET", f"/v2/{REPOSITORY}/blobs/{digest_of(LAYER)}")
        assert (reply.status, reply.code, reply["retry-after"]) == (503, "UNAVAILABLE", "1")


class TestAnotherNodesUpload:
    async def test_is_passed_on_to_it_whole(self, alice: Client, relay: Relayed) -> None:
        path = f"/v2/{REPOSITORY}/blobs/uploads/node2.abc"
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            body = [b"some", b"bytes"] if method in ("PATCH", "PUT") else b""
            reply = await alice(method, path, body)
            assert (reply.status, reply["range"]) == (202, "0-9")
            assert reply["x-request-id"]
            assert relay.calls[-1] == ("node2", "alice", f"{method} {path}", b"somebytes" if body else b"")

    async def test_is_not_passed_on_for_somebody_without_rights(self, node: Node, relay: Relayed) -> None:
        guest = await node.client("guest", SCOPE)
        assert (await guest("PATCH", f"/v2/{REPOSITORY}/blobs/uploads/node2.abc", b"x")).status == 401
        assert relay.calls == []


async def other_learns(elsewhere: Node, node: Node, tag: str, pushed: bytes) -> None:
    """Let the other node have what was pushed here."""
    for kind, key in ((MANIFEST, content_key(REPOSITORY, digest_of(pushed))), (TAG, tag_key(REPOSITORY, tag))):
        change = node.store.record(kind.name, key)
        assert change is not None
        with elsewhere.store.write() as transaction:
            transaction.merge_record(change)
