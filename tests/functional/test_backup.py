"""A node becomes one file while it serves, and a node again: whole, or with a clear word and nothing left behind."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.collections import run_gc
from tests.support.images import Image, image
from tests.support.nodes import eventually
from tests.support.pushes import check_pull, push, put_manifest
from tests.support.registry_client import RegistryClient, Repository
from tests.support.single import SingleNode, running_node, twinhull

_LIMIT_S: Final = 120


def run(*arguments: str, code: int = 0, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run `twinhull` to its end, and check its exit code."""
    command = [str(twinhull()), *arguments]
    done = subprocess.run(command, capture_output=True, input=stdin, check=False, timeout=_LIMIT_S)
    assert done.returncode == code, done.stderr.decode()
    return done


def repository_of(node: SingleNode, name: str) -> Repository:
    """Return a repository of the node."""
    return Repository(client=RegistryClient(addresses=(node.address,), user=node.user, password=node.password), name=name)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SingleNode]:
    """A node with some images."""
    with running_node(tmp_path_factory.mktemp("backed-up")) as running:
        yield running


@pytest.fixture(scope="module")
def held(node: SingleNode) -> dict[str, Image]:
    """The images."""
    contents = {f"v{number}": image(f"held {number}", layers=2, layer_bytes=40_000) for number in range(5)}
    for tag, content in contents.items():
        push(repository_of(node, "library/app"), content, tag)
    return contents


@pytest.fixture(scope="module")
def backup(node: SingleNode, held: dict[str, Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the node."""
    file = tmp_path_factory.mktemp("backup") / "node.tar"
    run("backup", str(file), "--data-dir", str(node.data_dir))
    return file


def test_restored_node_serves_what_was_there(backup: Path, held: dict[str, Image], tmp_path: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600
    done = run("restore", str(backup), "--data-dir", str(tmp_path / "data"))
    assert b"is restored" in done.stdout
    assert not (tmp_path / "data" / ".restoring").exists()
    with running_node(tmp_path) as restored:
        repository = repository_of(restored, "library/app")
        assert sorted(repository.tags()) == sorted(held)
        for tag, content in held.items():
            check_pull(repository, content, tag)
        later = image("pushed to the restored node", layers=1)
        push(repository, later, "later")
        check_pull(repository, later, "later")


def test_whole_backup_is_found_to_be_whole_without_being_restored(backup: Path, tmp_path: Path) -> None:
    done = run("restore", "--check", str(backup), "--data-dir", str(tmp_path / "data"))
    assert b"is whole in the backup: 15 blobs" in done.stdout
    assert not (tmp_path / "data").exists()


def test_backup_through_pipes_is_the_same(node: SingleNode, held: dict[str, Image], tmp_path: Path) -> None:
    written = run("backup", "-", "--data-dir", str(node.data_dir)).stdout
    run("restore", "-", "--data-dir", str(tmp_path / "data"), stdin=written)
    with running_node(tmp_path) as restored:
        for tag, content in held.items():
            check_pull(repository_of(restored, "library/app"), content, tag)


def test_backup_of_a_node_that_is_pushed_to_and_collected_has_all_that_its_metadata_name(
    node: SingleNode, tmp_path: Path
) -> None:
    pushed: dict[str, Image] = {}
    stop = threading.Event()

    def push_and_delete() -> None:
        repository = repository_of(node, "library/busy")
        number = 0
        while not stop.is_set():
            number += 1
            content = image(f"busy {number}", layers=1, layer_bytes=3_000)
            for blob in content.blobs:
                repository.push_blob(blob.content, blob.digest).expect(201)
            if put_manifest(repository, content, f"v{number}").expect(201, 400).status == 400:
                # Without a grace, a collection may come between a blob and its manifest.
                continue
            if number % 2:
                repository.delete(f"manifests/{content.digest}").expect(202)
            else:
                pushed[f"v{number}"] = content

    pushing = threading.Thread(target=push_and_delete)
    pushing.start()
    try:
        eventually(lambda: len(pushed) >= 3)
        before = dict(pushed)
        for number in range(2):
            run_gc(node.data_dir, "--grace", "0s")
            run("backup", str(tmp_path / f"{number}.tar"), "--data-dir", str(node.data_dir))
    finally:
        stop.set()
        pushing.join()
    run("restore", str(tmp_path / "1.tar"), "--data-dir", str(tmp_path / "data"))
    with running_node(tmp_path) as restored:
        repository = repository_of(restored, "library/busy")
        for tag in repository.tags():
            check_pull(repository, pushed.get(tag) or image(f"busy {tag[1:]}", layers=1, layer_bytes=3_000), tag)
        for tag, content in before.items():
            check_pull(repository, content, tag)


def test_existing_file_and_folder_with_data_are_left_alone(node: SingleNode, backup: Path, tmp_path: Path) -> None:
    before = backup.read_bytes()
    done = run("backup", str(backup), "--data-dir", str(node.data_dir), code=1)
    assert b"exists already" in done.stderr
    assert backup.read_bytes() == before
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").write_text("keep")
    done = run("restore", str(backup), "--data-dir", str(tmp_path / "data"), code=1)
    assert b"is not empty" in done.stderr
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mine"]


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _cut_at_a_member(content: bytes) -> bytes:
    """Leave the trailer out, as a backup whose disk was full."""
    shorter = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(content)) as old, tarfile.open(fileobj=shorter, mode="w") as new:
        for member in old.getmembers()[:-1]:
            new.addfile(member, old.extractfile(member))
    return shorter.getvalue()


def _flipped_in(prefix: str) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            member = next(one for one in tar.getmembers() if one.name.startswith(prefix) and one.size > 8)
        place = member.offset_data + member.size // 2
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]

    return flip


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda _: b"not a backup at all" * 100, "this is no backup of Twinhull"),
        (lambda _: b"", "this is no backup of Twinhull"),
        (_cut, "ends too early"),
        (_cut_at_a_member, "ends too early"),
        (_flipped_in("blobs/"), "has other bytes"),
        (_flipped_in("node/"), "is not as it was written"),
    ],
)
def test_damaged_backup_is_refused_and_leaves_nothing(
    backup: Path, tmp_path: Path, damage: Callable[[bytes], bytes], said: str
) -> None:
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(damage(backup.read_bytes()))
    done = run("restore", "--check", str(damaged), code=1)
    assert said in done.stderr.decode()
    done = run("restore", str(damaged), "--data-dir", str(tmp_path / "data"), code=1)
    assert said in done.stderr.decode()
    assert list((tmp_path / "data").iterdir()) == []


def test_rotten_blob_is_told_of_and_left_out(node: SingleNode, held: dict[str, Image], tmp_path: Path) -> None:
    rotten = held["v0"].blobs[1]
    path = node.data_dir / "blobs" / "sha256" / rotten.digest[7:9] / rotten.digest[7:]
    try:
        path.write_bytes(rotten.content[:-1] + b"!")
        done = run("backup", str(tmp_path / "rotten.tar"), "--data-dir", str(node.data_dir))
        assert rotten.digest in done.stderr.decode()
    finally:
        path.write_bytes(rotten.content)
    done = run("restore", str(tmp_path / "rotten.tar"), "--data-dir", str(tmp_path / "data"))
    assert b"1 blobs were not in the backup, or rotten" in done.stderr
    assert not (tmp_path / "data" / "blobs" / "sha256" / rotten.digest[7:9] / rotten.digest[7:]).exists()


def test_restore_that_was_killed_keeps_a_node_from_starting_and_can_be_done_again(backup: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    restoring = subprocess.Popen(
        [str(twinhull()), "restore", "-", "--data-dir", str(data_dir)], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert restoring.stdin is not None
    content = backup.read_bytes()
    restoring.stdin.write(content[: len(content) // 2])
    restoring.stdin.flush()
    eventually(lambda: any((data_dir / ".restoring" / "blobs").rglob("*/??/*")), what="some blobs are restored")
    restoring.kill()
    restoring.wait()
    restoring.stdin.close()

    environment = os.environ | {"TWINHULL_LISTEN": "127.0.0.1:0"}
    command = [str(twinhull()), "serve", "--data-dir", str(data_dir)]
    refused = subprocess.run(command, capture_output=True, check=False, timeout=_LIMIT_S, env=environment)
    assert refused.returncode == 1
    assert b"was cut off" in refused.stderr
    run("restore", str(backup), "--data-dir", str(data_dir))
    assert json.loads((data_dir / "node" / "identity.json").read_bytes())["slot"] == 0
