"""What was changed behind the node's back is not served; what only its size in a table denies, is."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.support.composed import Client, Node
from twinhull.kit.digest import digest_of

REPOSITORY = "team/app"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node that nobody else has copies of."""
    made = Node(tmp_path)
    made.add_project("team")
    made.add_user("alice", team=1)
    yield made
    made.close()


@pytest.fixture
async def alice(node: Node) -> Client:
    """A client who may push."""
    return await node.client("alice", f"repository:{REPOSITORY}:pull,push")


async def pushed(alice: Client) -> tuple[bytes, str]:
    """Push a blob, and return it with its path."""
    content = secrets.token_bytes(2000)
    digest = digest_of(content)
    reply = await alice("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest}", content)
    assert reply.status == 201
    return content, f"/v2/{REPOSITORY}/blobs/{digest}"


@pytest.mark.parametrize("length", [0, 1999, 2001])
async def test_blob_of_another_length_than_it_had_is_put_aside(node: Node, alice: Client, length: int) -> None:
    content, path = await pushed(alice)
    file = node.blobs.path_of(digest_of(content))
    assert file is not None
    file.write_bytes((content + b"!")[:length])
    assert (await alice("GET", path)).status in (404, 503)
    assert node.blobs.stat(digest_of(content)) is None
    # Whoever has the bytes can send them again.
    await alice("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest_of(content)}", content)
    assert (await alice("GET", path)).body == content


async def test_blob_whose_size_was_forged_in_a_table_is_served_as_it_is(node: Node, alice: Client) -> None:
    content, path = await pushed(alice)
    with node.store.write() as transaction:
        transaction.connection.execute(text("UPDATE blob_links SET size = 5"))
    reply = await alice("GET", path)
    assert (reply.status, reply.body, reply["content-length"]) == (200, content, "2000")
    assert node.blobs.stat(digest_of(content)) == 2000
