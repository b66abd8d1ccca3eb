"""Blobs and uploads of the data plane, on real metadata and real files."""

from __future__ import annotations

import email
import secrets
from collections.abc import Iterator, Sequence
from email.message import Message
from pathlib import Path
from typing import Self, cast

import pytest

from tests.support.composed import Client, Node, Reply
from twinhull.blobs.filesystem import FilesystemBlobs
from twinhull.blobs.store import Chunk
from twinhull.blobs.upload import FilesystemUpload
from twinhull.kit.digest import Digest, digest_of
from twinhull.kit.errors import StorageFull, Unavailable
from twinhull.registry.blobs import PIECE_BYTES
from twinhull.registry.uploads import SHORT_BYTES

REPOSITORY = "team/app"
UPLOADS = f"/v2/{REPOSITORY}/blobs/uploads/"
SCOPE = f"repository:{REPOSITORY}:pull,push,delete"


class FullUpload:
    """An upload that finds no room."""

    def __init__(self, upload: FilesystemUpload) -> None:
        self._upload = upload

    def __getattr__(self, name: str) -> object:
        return getattr(self._upload, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._upload.close()

    def append(self, chunks: Sequence[Chunk]) -> None:
        raise StorageFull


class FailingBlobs(FilesystemBlobs):
    """A store whose disk can fail on reading, and be full."""

    fails_from: int | None = None
    is_full = False

    def open_upload(self, upload_id: str) -> FilesystemUpload:
        upload = super().open_upload(upload_id)
        return cast("FilesystemUpload", FullUpload(upload)) if self.is_full else upload

    def read(self, digest: Digest, start: int, length: int) -> bytes:
        if self.fails_from is not None and start >= self.fails_from:
            raise Unavailable("the disk is gone")
        return super().read(digest, start, length)


@pytest.fixture
def blobs(tmp_path: Path) -> FailingBlobs:
    return FailingBlobs(tmp_path)


@pytest.fixture
def node(tmp_path: Path, blobs: FailingBlobs) -> Iterator[Node]:
    made = Node(tmp_path, blobs=blobs)
    for project in ("team", "other"):
        made.add_project(project)
    made.add_project("open", public=True)
    made.add_user("alice", team=1, open=1)
    made.add_user("bob", other=1, team=2)
    yield made
    made.close()


@pytest.fixture
async def alice(node: Node) -> Client:
    return await node.client("alice", SCOPE, "repository:team/second:pull,push")


def blob_url(content: bytes, repository: str = REPOSITORY) -> str:
    return f"/v2/{repository}/blobs/{digest_of(content)}"


async def push_blob(client: Client, content: bytes, repository: str = REPOSITORY) -> Reply:
    reply = await client("POST", f"/v2/{repository}/blobs/uploads/?digest={digest_of(content)}", content)
    assert reply.status == 201, reply
    return reply


async def begin(client: Client, query: str = "") -> str:
    reply = await client("POST", UPLOADS + query)
    assert (reply.status, reply["content-length"]) == (202, "0"), reply
    return reply["location"]


class TestPull:
    async def test_a_whole_blob_goes_out_as_a_file(self, node: Node, alice: Client) -> None:
        content = secrets.token_bytes(1000)
        location = (await push_blob(alice, content))["location"]
        assert location == blob_url(content)
        reply = await alice("GET", location)
        assert (reply.status, reply.body) == (200, content)
        assert reply.sent_file
        assert "immutable" in reply["cache-control"]
        assert reply["docker-content-digest"] == digest_of(content)

    async def test_a_server_that_sends_no_files_is_given_pieces(self, alice: Client) -> None:
        content = secrets.token_bytes(PIECE_BYTES * 2 + 5)
        await push_blob(alice, content)
        reply = await alice("GET", blob_url(content), sends_files=False)
        assert not reply.sent_file
        assert reply.body == content

    async def test_a_part(self, alice: Client) -> None:
        content = secrets.token_bytes(PIECE_BYTES + 100)
        await push_blob(alice, content)
        reply = await alice("GET", blob_url(content), range="bytes=10-")
        assert (reply.status, reply.body) == (206, content[10:])
        assert reply["content-range"] == f"bytes 10-{len(content) - 1}/{len(content)}"
        assert reply["content-length"] == str(len(content) - 10)
        beyond = await alice("GET", blob_url(content), range=f"bytes={len(content)}-")
        assert (beyond.status, beyond["content-range"]) == (416, f"bytes */{len(content)}")

    async def test_several_parts_in_one_answer(self, alice: Client) -> None:
        content = secrets.token_bytes(5000)
        await push_blob(alice, content)
        reply = await alice("GET", blob_url(content), range="bytes=0-9,100-299,-7")
        assert reply.status == 206
        assert reply["content-length"] == str(len(reply.body))
        parsed: Message = email.message_from_bytes(b"Content-Type: " + reply["content-type"].encode() + b"\r\n" + reply.body)
        parts = parsed.get_payload()
        assert isinstance(parts, list)
        ranges = [part["Content-Range"] for part in parts if isinstance(part, Message)]
        assert ranges == ["bytes 0-9/5000", "bytes 100-299/5000", "bytes 4993-4999/5000"]
        boundary = b"--" + reply["content-type"].partition("boundary=")[2].encode()
        bodies = [piece.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for piece in reply.body.split(boundary)[1:-1]]
        assert bodies == [content[:10], content[100:300], content[-7:]]

    async def test_a_part_is_only_sent_if_it_is_of_the_same_blob(self, alice: Client) -> None:
        content = secrets.token_bytes(100)
        await push_blob(alice, content)
        same = await alice("GET", blob_url(content), range="bytes=0-9", if_range=f'"{digest_of(content)}"')
        assert same.status == 206
        other = await alice("GET", blob_url(content), range="bytes=0-9", if_range='"something else"')
        assert (other.status, other.body) == (200, content)

    async def test_what_the_client_has_is_not_sent_again(self, alice: Client) -> None:
        content = secrets.token_bytes(100)
        await push_blob(alice, content)
        for method in ("GET", "HEAD"):
            for tag in (f'"{digest_of(content)}"', f'W/"{digest_of(content)}"', f'"x", "{digest_of(content)}"', "*"):
                reply = await alice(method, blob_url(content), if_none_match=tag)
                assert (reply.status, reply.body) == (304, b"")
        unknown = await alice("GET", blob_url(b"never pushed"), if_none_match="*")
        assert unknown.status == 404

    async def test_a_failing_disk_cuts_the_answer_off_instead_of_ending_it(self, alice: Client, blobs: FailingBlobs) -> None:
        content = secrets.token_bytes(PIECE_BYTES * 2)
        await push_blob(alice, content)
        blobs.fails_from = PIECE_BYTES
        with pytest.raises(Unavailable):
            await alice("GET", blob_url(content), sends_files=False)


class TestUpload:
    async def test_chunk_by_chunk(self, alice: Client) -> None:
        content = secrets.token_bytes(3000)
        upload = await begin(alice)
        first = await alice("PATCH", upload, content[:1000], content_range="0-999")
        assert (first.status, first["range"], first["location"]) == (202, "0-999", upload)
        second = await alice("PATCH", upload, [content[1000:1500], content[1500:2000]])
        assert (second.status, second["range"]) == (202, "0-1999")
        done = await alice("PUT", f"{upload}?digest={digest_of(content)}", content[2000:], content_range="2000-2999")
        assert (done.status, done["location"]) == (201, blob_url(content))
        assert (await alice("GET", blob_url(content))).body == content
        assert (await alice("GET", upload)).code == "BLOB_UPLOAD_UNKNOWN"

    async def test_out_of_order_leaves_the_upload_where_it_was(self, alice: Client) -> None:
        content = secrets.token_bytes(2000)
        upload = await begin(alice)
        assert (await alice("GET", upload))["range"] == "0-0"
        for attempt in ("1000-1999", "5-2", "x", "0-3"):
            reply = await alice("PATCH", upload, content[:1000], content_range=attempt)
            assert (reply.status, reply["location"], reply["range"]) == (416, upload, "0-0"), attempt
        await alice("PATCH", upload, content[:1000], content_range="0-999")
        retried = await alice("PATCH", upload, content[:1000], content_range="0-999")
        assert (retried.status, retried["range"]) == (416, "0-999")
        closing = await alice("PUT", f"{upload}?digest={digest_of(content)}", content[:1000], content_range="0-999")
        assert (closing.status, closing["range"]) == (416, "0-999")
        done = await alice("PUT", f"{upload}?digest={digest_of(content)}", content[1000:], content_range="1000-1999")
        assert done.status == 201

    async def test_a_chunk_of_another_length_than_announced_is_refused(self, alice: Client) -> None:
        upload = await begin(alice)
        short = await alice("PATCH", upload, [b"12345", b"67"], content_range="0-9")
        assert (short.status, short.code) == (400, "SIZE_INVALID")
        long = await alice("PATCH", upload, [b"123", b"too much"], content_range="0-2")
        assert (long.status, long.code) == (413, "SIZE_INVALID")
        assert (await alice("GET", upload))["range"] == "0-0"

    async def test_a_long_chunk_that_ends_early_is_refused_and_what_came_is_kept(self, alice: Client) -> None:
        content = secrets.token_bytes(SHORT_BYTES + 10)
        upload = await begin(alice)
        short = await alice("PATCH", upload, [content[:1000], content[1000:]], content_range=f"0-{len(content)}")
        assert (short.status, short.code) == (400, "SIZE_INVALID")
        assert (await alice("GET", upload))["range"] == f"0-{len(content) - 1}"
        done = await alice("PUT", f"{upload}?digest={digest_of(content + b'!')}", b"!")
        assert done.status == 201

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    async def test_sha512_with_and_without_its_announcement(self, alice: Client, algorithm: str) -> None:
        content = secrets.token_bytes(500)
        digest = digest_of(content, "sha512")
        upload = await begin(alice, f"?digest-algorithm={algorithm}")
        await alice("PATCH", upload, content)
        done = await alice("PUT", f"{upload}?digest={digest}")
        assert (done.status, done["docker-content-digest"]) == (201, digest)
        assert (await alice("GET", done["location"])).body == content

    async def test_other_algorithms_are_refused(self, alice: Client) -> None:
        assert (await alice("POST", UPLOADS + "?digest-algorithm=md5")).code == "DIGEST_INVALID"
        assert (await alice("POST", UPLOADS + "?digest=md5:aa", b"x")).code == "DIGEST_INVALID"
        upload = await begin(alice)
        assert (await alice("PUT", f"{upload}?digest=md5:aa", b"x")).code == "DIGEST_INVALID"
        assert (await alice("PUT", upload, b"x")).code == "DIGEST_INVALID"

    async def test_other_bytes_than_the_digest_says_leave_nothing(self, node: Node, alice: Client) -> None:
        wrong = digest_of(b"something else")
        assert (await alice("POST", f"{UPLOADS}?digest={wrong}", b"bytes")).code == "DIGEST_INVALID"
        upload = await begin(alice)
        assert (await alice("PUT", f"{upload}?digest={wrong}", b"bytes")).code == "DIGEST_INVALID"
        assert (await alice("HEAD", blob_url(b"something else"))).status == 404
        assert (await alice("HEAD", blob_url(b"bytes"))).status == 404
        assert list(node.blobs.uploads()) == []

    async def test_a_client_that_leaves_can_go_on_where_it_was(self, alice: Client) -> None:
        content = secrets.token_bytes(SHORT_BYTES * 3)
        for arrived in (1000, SHORT_BYTES * 2):
            upload = await begin(alice)
            gone = await alice("PATCH", upload, [content[:arrived]], leaves=True, content_length=str(len(content)))
            assert gone.status == 0
            assert (await alice("GET", upload))["range"] == f"0-{arrived - 1}"
            done = await alice("PUT", f"{upload}?digest={digest_of(content)}", content[arrived:])
            assert done.status == 201

    async def test_a_client_that_leaves_a_single_post_leaves_nothing(self, node: Node, alice: Client) -> None:
        gone = await alice("POST", f"{UPLOADS}?digest={digest_of(b'whole')}", [b"who"], leaves=True, content_length="5")
        assert gone.status == 0
        assert list(node.blobs.uploads()) == []

    async def test_cancel(self, node: Node, alice: Client) -> None:
        upload = await begin(alice)
        await alice("PATCH", upload, b"bytes")
        assert (await alice("DELETE", upload)).status == 204
        for method, query in (("GET", ""), ("PATCH", ""), ("PUT", f"?digest={digest_of(b'bytes')}"), ("DELETE", "")):
            reply = await alice(method, upload + query, b"" if method in ("GET", "DELETE") else b"bytes")
            assert (reply.status, reply.code) == (404, "BLOB_UPLOAD_UNKNOWN")
        assert list(node.blobs.uploads()) == []

    async def test_an_id_is_no_key_to_anothers_upload(self, node: Node, alice: Client) -> None:
        upload = await begin(alice)
        upload_id = upload.rpartition("/")[2]
        node.blobs.start_upload("transfer-sha256-aa", {})
        for path in (
            f"/v2/team/second/blobs/uploads/{upload_id}",
            f"{UPLOADS}transfer-sha256-aa",
            f"{UPLOADS}..",
            f"{UPLOADS}node1.",
            f"{UPLOADS}.hidden",
            f"{UPLOADS}{'x' * 300}",
        ):
            assert (await alice("GET", path)).status == 404, path
            assert (await alice("PATCH", path, b"x")).status == 404, path
            assert (await alice("DELETE", path)).status == 404, path
        assert (await alice("GET", upload)).status == 204

    async def test_a_full_disk_is_said_and_the_upload_lives(self, alice: Client, blobs: FailingBlobs) -> None:
        upload = await begin(alice)
        blobs.is_full = True
        assert (await alice("PATCH", upload, b"bytes")).status == 507
        blobs.is_full = False
        assert (await alice("PATCH", upload, b"bytes"))["range"] == "0-4"


class TestMount:
    async def test_from_a_repository_that_the_caller_may_read(self, alice: Client) -> None:
        await push_blob(alice, b"layer", "team/second")
        reply = await alice("POST", f"{UPLOADS}?mount={digest_of(b'layer')}&from=team/second")
        assert (reply.status, reply["location"]) == (201, blob_url(b"layer"))
        assert (await alice("GET", blob_url(b"layer"))).body == b"layer"

    async def test_who_comes_without_a_token_is_told_both_scopes_at_once(self, node: Node) -> None:
        reply = await Client(node)("POST", f"{UPLOADS}?mount={digest_of(b'layer')}&from=team/second")
        assert f'scope="repository:{REPOSITORY}:pull,push repository:team/second:pull"' in reply["www-authenticate"]
        reply = await Client(node)("POST", f'{UPLOADS}?mount={digest_of(b"layer")}&from=x"y')
        assert f'scope="repository:{REPOSITORY}:pull,push"' in reply["www-authenticate"]

    async def test_a_token_without_the_sources_scope_is_told_which_it_needs(self, node: Node, alice: Client) -> None:
        await push_blob(alice, b"layer", "team/second")
        narrow = await node.client("alice", SCOPE)
        reply = await narrow("POST", f"{UPLOADS}?mount={digest_of(b'layer')}&from=team/second")
        assert reply.status == 401
        assert f'scope="repository:{REPOSITORY}:pull,push repository:team/second:pull"' in reply["www-authenticate"]

    @pytest.mark.parametrize("query", ["&from=other/app", ""])
    async def test_what_the_caller_may_not_read_is_not_mounted(self, node: Node, alice: Client, query: str) -> None:
        bob = await node.client("bob", "repository:other/app:pull,push")
        await push_blob(bob, b"secret", "other/app")
        reply = await alice("POST", f"{UPLOADS}?mount={digest_of(b'secret')}{query}")
        assert reply.status == 202
        assert (await alice("HEAD", blob_url(b"secret"))).status == 404

    async def test_without_a_source_from_wherever_the_caller_may_read(self, node: Node, alice: Client) -> None:
        await push_blob(alice, b"layer", "team/second")
        narrow = await node.client("alice", SCOPE)
        reply = await narrow("POST", f"{UPLOADS}?mount={digest_of(b'layer')}")
        assert (reply.status, reply["location"]) == (201, blob_url(b"layer"))

    @pytest.mark.parametrize("source", ["team/unknown", "No/Name", "", "team", "../x"])
    async def test_what_is_not_there_begins_an_upload(self, alice: Client, source: str) -> None:
        reply = await alice("POST", f"{UPLOADS}?mount={digest_of(b'layer')}&from={source}")
        assert reply.status in (202, 401)
        if reply.status == 202:
            done = await alice("PUT", f"{reply['location']}?digest={digest_of(b'layer')}", b"layer")
            assert done.status == 201

    async def test_what_is_no_digest_is_refused(self, alice: Client) -> None:
        assert (await alice("POST", f"{UPLOADS}?mount=sha256:xyz&from=team/second")).code == "DIGEST_INVALID"
