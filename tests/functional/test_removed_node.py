"""A node that has learned of its own removal: clients are sent elsewhere."""

from __future__ import annotations

import contextlib
import http.client
from pathlib import Path

from tests.support.processes import wait_until
from tests.support.single import is_ready, running_node
from twinhull.config.settings import Settings
from twinhull.kit.clock import SystemClock
from twinhull.metadata.sqlite import SqliteDatabase
from twinhull.metadata.store import Store
from twinhull.node.parts import trust_of
from twinhull.records.kinds import NODE


def test_removed_node_is_not_ready_and_says_why(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        identity = trust_of(Settings(data_dir=node.data_dir)).identity()
        database = SqliteDatabase(node.data_dir / "metadata.db", run_dir=node.data_dir / "run")
        with contextlib.closing(database):
            store = Store(database, node=identity.node, slot=identity.slot, clock=SystemClock())
            with store.write() as transaction:
                assert transaction.delete(NODE, identity.node)

        wait_until(lambda: not is_ready(node.address), process=node.process, log=node.log, limit_s=20)

        host, _, port = node.address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            assert answer.status == 503
            assert b"removed from its cluster" in answer.read()
