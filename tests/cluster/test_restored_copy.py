"""A node whose data directory is an old copy: it takes back what it forgot, and never gives a number of its log twice."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.accounts import basic
from tests.support.images import Image, image
from tests.support.nodes import Cluster, ClusterNode, eventually, new_name, running_cluster
from tests.support.pushes import check_pull, push
from tests.support.single import ADMIN_PASSWORD, twinhull

_JSON: Final = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes for these tests alone, since one of them will have several pasts."""
    with running_cluster(tmp_path_factory.mktemp("pasts"), ("a", "b")) as running:
        yield running


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    """The two nodes, in sync."""
    yield shared
    shared.mend()


def copy_of(node: ClusterNode) -> Path:
    """Return a copy of the node's data, made while the node is down as an operator's file backup is."""
    node.stop()
    copy = node.directory / "copy"
    shutil.copytree(node.data_dir, copy, symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
    node.start()
    return copy


def put_back(node: ClusterNode, copy: Path) -> None:
    """Let the node, which is down, have the copy in place of its data."""
    shutil.rmtree(node.data_dir)
    copy.rename(node.data_dir)


def pushed(node: ClusterNode, name: str, tags: range) -> dict[str, Image]:
    """Push images and return them by tag."""
    contents = {f"v{number}": image(f"{name} {number}", layers=1) for number in tags}
    for tag, content in contents.items():
        push(node.repository(name), content, tag)
    return contents


def is_equal(node: ClusterNode) -> bool:
    """Tell whether the node and its peers have the same, bytes included."""
    return bool(node.ask("POST", "/verify")["equal"])


def run_twinhull(*arguments: str) -> None:
    """Run a command that has to succeed."""
    done = subprocess.run([str(twinhull()), *arguments], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()


def project_id(node: ClusterNode, name: str) -> int:
    """Make a project and return its id."""
    client = node.client()
    body, admin = json.dumps({"project_name": name}).encode(), basic("admin", ADMIN_PASSWORD)
    client.request("POST", "/api/v2.0/projects", body=body, headers=_JSON, authorization=admin).expect(201)
    project = client.request("GET", f"/api/v2.0/projects/{name}", authorization=admin).expect(200).json()
    assert isinstance(project, dict)
    return int(project["project_id"])


def test_restored_copy_takes_back_what_it_forgot_and_writes_on(cluster: Cluster) -> None:
    a, b = cluster
    name = new_name()
    held = pushed(a, name, range(2))
    copy = copy_of(a)
    cluster.wait_in_sync()
    held |= pushed(a, name, range(2, 6))
    forgotten = project_id(a, "forgotten")
    eventually(lambda: is_equal(a), what="b has all that a will forget, bytes included")
    a.stop()
    put_back(a, copy)

    a.start()

    # At once, before everything can have come back: nothing of it may take the place of what was written before.
    held |= pushed(a, name, range(6, 9))
    assert project_id(a, "afterwards") != forgotten
    for node in (a, b):
        for tag, content in held.items():
            check_pull(node.repository(name), content, tag)
    cluster.wait_in_sync()
    eventually(lambda: is_equal(a) and is_equal(b), what="equal")
    assert "database is an old copy" in a.log.read_text()


def test_copy_that_is_restored_while_its_peer_is_away_loses_neither_past(cluster: Cluster) -> None:
    a, b = cluster
    name = new_name()
    copy = copy_of(a)
    cluster.wait_in_sync()
    held = pushed(a, name, range(4))
    eventually(lambda: is_equal(a), what="b has all that a will forget, bytes included")
    b.stop()
    a.stop()
    put_back(a, copy)

    a.start()
    held |= pushed(a, name, range(4, 8))
    b.start()

    cluster.wait_in_sync()
    for node in (a, b):
        for tag, content in held.items():
            check_pull(node.repository(name), content, tag)
    eventually(lambda: is_equal(a) and is_equal(b), what="equal")


def test_database_that_is_put_back_in_place_while_the_peer_is_away_loses_neither_past(cluster: Cluster) -> None:
    a, b = cluster
    name = new_name()
    held = pushed(a, name, range(2))
    a.stop()
    before = (a.data_dir / "metadata.db").read_bytes()
    a.start()
    cluster.wait_in_sync()
    held |= pushed(a, name, range(2, 5))
    eventually(lambda: is_equal(a), what="b has all that a will forget, bytes included")
    b.stop()
    a.stop()
    # The same file, with what was in it then.
    (a.data_dir / "metadata.db").write_bytes(before)

    a.start()
    held |= pushed(a, name, range(5, 8))
    b.start()

    cluster.wait_in_sync()
    for node in (a, b):
        for tag, content in held.items():
            check_pull(node.repository(name), content, tag)
    eventually(lambda: is_equal(a) and is_equal(b), what="equal")


def test_restart_of_a_node_begins_no_new_life_while_its_peer_is_away(cluster: Cluster) -> None:
    a, b = cluster
    before = a.log.read_text().count("database is an old copy")
    b.stop()
    for _ in range(2):
        a.stop()
        a.start()
    assert a.log.read_text().count("database is an old copy") == before


def test_old_backup_is_restored_into_the_living_cluster(cluster: Cluster, tmp_path: Path) -> None:
    a, b = cluster
    name = new_name()
    held = pushed(a, name, range(2))
    backup = tmp_path / "old.tar"
    run_twinhull("backup", str(backup), "--data-dir", str(a.data_dir))
    held |= pushed(a, name, range(2, 4)) | pushed(b, name, range(4, 6))
    b.repository(name).delete("manifests/v0").expect(202)
    held.pop("v0")
    cluster.wait_in_sync()
    eventually(lambda: is_equal(a), what="b has all that a will lose, bytes included")
    a.kill()
    shutil.rmtree(a.data_dir)

    run_twinhull("restore", str(backup), "--data-dir", str(a.data_dir))
    a.start()
    held |= pushed(a, name, range(6, 8))

    cluster.wait_in_sync()
    for node in (a, b):
        assert sorted(node.repository(name).tags()) == sorted(held)
        for tag, content in held.items():
            check_pull(node.repository(name), content, tag)
    eventually(lambda: is_equal(a) and is_equal(b), what="equal")
    # The bytes of what was pushed after the backup are on the restored node's own disk again.
    blobs = [blob.digest for content in held.values() for blob in content.blobs]
    eventually(lambda: all(a.has_blob(digest) for digest in blobs), what="all bytes are back")
