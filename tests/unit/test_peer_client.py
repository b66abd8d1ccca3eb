"""What peers answer is read, or refused by a failure that the caller knows."""

from __future__ import annotations

import ssl
from typing import cast

import aiohttp
import msgspec
import pytest

from twinhull.kit.errors import ProtocolError
from twinhull.replication.bulk_client import BulkClient
from twinhull.replication.peer_client import PeerClient
from twinhull.replication.protocol import VectorAnswer


class Answered(PeerClient):
    """A client of a peer that answers everything with the same bytes."""

    answer = b""

    async def _post(self, path: str, body: msgspec.Struct, *, timeout_s: float) -> bytes:
        del path, body, timeout_s
        return self.answer


@pytest.fixture
def client() -> Answered:
    """A client that dials nobody."""
    tls = ssl.create_default_context()
    return Answered("n2", "127.0.0.1:1", session=cast("aiohttp.ClientSession", None), tls=tls, bulk=cast("BulkClient", None))


async def test_answer_is_read(client: Answered) -> None:
    client.answer = msgspec.msgpack.encode(VectorAnswer(vector={"n2": 7}))
    assert await client.vector(timeout_s=1) == {"n2": 7}


@pytest.mark.parametrize("answer", [b"", b"\xc1", b"\x80", b"<html>"])
async def test_answer_that_makes_no_sense_is_refused(client: Answered, answer: bytes) -> None:
    client.answer = answer
    with pytest.raises(ProtocolError, match="cannot be read"):
        await client.vector(timeout_s=1)
