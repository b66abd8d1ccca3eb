"""A node on PostgreSQL is backed up like any other, and a backup of either kind of database can be restored as the other."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.support.collections import run_gc
from tests.support.images import Image, image, random_bytes, sha256
from tests.support.postgres import Postgres
from tests.support.pushes import check_pull, push
from tests.support.registry_client import RegistryClient, Repository
from tests.support.single import SingleNode, running_node, twinhull

NAME: Final = "library/app"
_LIMIT_S: Final = 120


def on_postgres(postgres: Postgres) -> dict[str, str]:
    """Return the environment of a node with an empty database of its own."""
    return {"TWINHULL_DATABASE_URL": postgres.create_database(f"node_{secrets.token_hex(4)}")}


def run(environment: Mapping[str, str], *arguments: str, code: int = 0) -> str:
    """Run `twinhull` to its end, check its exit code, and return what it said."""
    variables = os.environ | environment
    command = [str(twinhull()), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_S, env=variables)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def repository_of(node: SingleNode) -> Repository:
    """Return the repository of the node."""
    client = RegistryClient(addresses=(node.address,), user=node.user, password=node.password)
    return Repository(client=client, name=NAME)


def test_node_moves_from_postgres_to_sqlite_and_back_by_backups(postgres: Postgres, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for directory in (first, second, third):
        directory.mkdir()
    held: dict[str, Image] = {f"v{number}": image(f"held {number}", layers=1) for number in range(3)}
    origin, target = on_postgres(postgres), on_postgres(postgres)
    with running_node(first, environment=origin) as node:
        for tag, content in held.items():
            push(repository_of(node), content, tag)
        garbage = random_bytes("garbage", 10_000)
        repository_of(node).push_blob(garbage, sha256(garbage)).expect(201)
        assert run_gc(node.data_dir, "--grace", "0s")["outcome"]["freed_bytes"] == len(garbage)
        run(origin, "backup", str(tmp_path / "1.tar"), "--data-dir", str(node.data_dir))

    run({}, "restore", str(tmp_path / "1.tar"), "--data-dir", str(second / "data"))
    with running_node(second) as node:
        for tag, content in held.items():
            check_pull(repository_of(node), content, tag)
        held["later"] = image("later", layers=1)
        push(repository_of(node), held["later"], "later")
        run({}, "backup", str(tmp_path / "2.tar"), "--data-dir", str(node.data_dir))

    # A database that holds a node's metadata is not taken for an empty one, and nothing is left of the try.
    said = run(origin, "restore", str(tmp_path / "2.tar"), "--data-dir", str(third / "data"), code=1)
    assert "the database is not empty" in said
    assert list((third / "data").iterdir()) == []
    run(target, "restore", str(tmp_path / "2.tar"), "--data-dir", str(third / "data"))
    with running_node(third, environment=target) as node:
        for tag, content in held.items():
            check_pull(repository_of(node), content, tag)
        push(repository_of(node), image("last", layers=1), "last")
