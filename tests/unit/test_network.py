"""Unit tests have no network: tests/conftest.py sees to it."""

from __future__ import annotations

import asyncio
import socket

import pytest


def test_connecting_is_refused() -> None:
    with socket.socket() as client, pytest.raises(AssertionError, match="unit test"):
        client.connect(("127.0.0.1", 9))


def test_looking_up_a_name_is_refused() -> None:
    with pytest.raises(AssertionError, match="unit test"):
        socket.create_connection(("localhost", 9))


async def test_serving_is_refused() -> None:
    with pytest.raises(AssertionError, match="unit test"):
        await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)


def test_sockets_that_are_files_are_let_through() -> None:
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(FileNotFoundError):
        client.connect("no-such.sock")
