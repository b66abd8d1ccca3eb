"""A disk that fills up in mid-upload: a clear answer, nothing lost or half visible, and recovery with the space."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.collections import run_gc
from tests.support.images import image, random_bytes, sha256
from tests.support.plain_registry import plain_registry
from tests.support.proxied import make_proxy
from tests.support.pushes import check_pull, push
from tests.support.registry_client import Answer, RegistryClient, Repository, basic, location_of
from tests.support.single import SingleNode, running_node

DISK_MB: Final = 96
BALLAST_BYTES: Final = 16 * 1024 * 1024
BLOB_BYTES: Final = 40 * 1024 * 1024
MEBIBYTE: Final = 1024 * 1024
FILL_TRIES: Final = 100


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Mount a small disk of the test's own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path_factory.mktemp("small-disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture(scope="module")
def node(small_disk: Path) -> Iterator[SingleNode]:
    """Run a node on the small disk."""
    with running_node(small_disk) as running:
        yield running


@pytest.fixture
def repository(node: SingleNode) -> Repository:
    """Return a repository of the node."""
    client = RegistryClient(addresses=(node.address,), user=node.user, password=node.password)
    return Repository(client=client, name="library/full")


def fill(disk: Path, leave_bytes: int) -> Path:
    """Take up all of the disk but so many bytes, and return the file that does."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        for _ in range(FILL_TRIES):
            state = os.statvfs(disk)
            try:
                os.posix_fallocate(file.fileno(), 0, max(1, state.f_bavail * state.f_frsize - leave_bytes))
            except OSError as error:
                # The node wrote a page of its own between the question and the order.
                if error.errno != errno.ENOSPC:
                    raise
            else:
                return ballast
    message = f"the disk of {disk} could not be filled: its free space never stood still"
    raise AssertionError(message)


def test_full_disk_in_the_middle_of_an_upload_loses_nothing_and_recovers(
    node: SingleNode, small_disk: Path, repository: Repository
) -> None:
    before = image("before the disk is full", layers=2)
    push(repository, before, "before")
    blob = random_bytes("a blob too big for what is left", BLOB_BYTES)
    ballast = fill(small_disk, BALLAST_BYTES)

    refused = repository.push_blob(blob, sha256(blob))

    assert refused.status == 507, refused
    assert "No space left" in refused.body.decode()
    repository.head(f"blobs/{sha256(blob)}").expect(404)
    check_pull(repository, before, "before")

    ballast.unlink()
    repository.push_blob(blob, sha256(blob)).expect(201)
    assert repository.get(f"blobs/{sha256(blob)}").expect(200).body == blob
    check_pull(repository, before, "before")


def test_full_disk_refuses_manifests_and_blobs_alike_and_the_node_stays_up(
    node: SingleNode, small_disk: Path, repository: Repository
) -> None:
    held = image("held while the disk is full", layers=1)
    push(repository, held, "held")
    ballast = fill(small_disk, 0)
    try:
        # So many that the free pages of the files that are there are used up too.
        for number in range(40):
            blob = random_bytes(f"nowhere to go {number}", MEBIBYTE)
            answer = repository.client.request("POST", repository.path("blobs/uploads/"))
            if answer.status == 202:
                answer = repository.finish(location_of(answer), sha256(blob), blob)
            assert answer.status in {503, 507}, answer
        check_pull(repository, held, "held")
        assert repository.client.request("GET", "/v2/").status == 200
    finally:
        ballast.unlink()
    after = image("after the disk was full", layers=1)
    push(repository, after, "after")
    check_pull(repository, after, "after")


def test_garbage_is_collected_on_a_full_disk(node: SingleNode, small_disk: Path, repository: Repository) -> None:
    held, garbage = image("held through the collection", layers=1), random_bytes("garbage", 20 * MEBIBYTE)
    push(repository, held, "collected")
    repository.push_blob(garbage, sha256(garbage)).expect(201)
    ballast = fill(small_disk, 0)
    try:
        # The free pages of the files that are there are used up, so that not even an order can be written down.
        while repository.client.request("POST", repository.path("blobs/uploads/")).status == 202:
            continue
        blob = random_bytes("no room", MEBIBYTE)
        outcome = run_gc(node.data_dir, "--grace", "0s")["outcome"]

        assert outcome["freed_bytes"] >= len(garbage)
        check_pull(repository, held, "collected")
        repository.push_blob(blob, sha256(blob)).expect(201)
    finally:
        ballast.unlink()


def test_what_comes_from_another_registry_is_passed_on_when_the_disk_is_full(
    node: SingleNode, small_disk: Path, tmp_path: Path
) -> None:
    client = RegistryClient(addresses=(node.address,), user=node.user, password=node.password)

    def manage(method: str, path: str, body: object = None) -> Answer:
        return client.request(
            method,
            f"/api/v2.0{path}",
            headers={"Content-Type": "application/json"},
            body=json.dumps(body).encode() if body else b"",
            authorization=basic(node.user, node.password),
        )

    content = image("from another registry", layers=1, layer_bytes=12 * MEBIBYTE)
    with plain_registry(tmp_path) as upstream:
        push(upstream.repository("team/app"), content, "v1")
        repository = Repository(client=client, name=f"{make_proxy(manage, upstream.url)}/team/app")
        ballast = fill(small_disk, 5 * MEBIBYTE)
        try:
            for _ in range(2):
                check_pull(repository, content, "v1")
        finally:
            ballast.unlink()
        assert manage("GET", f"/projects/{repository.name.partition('/')[0]}/repositories").json() == []
        check_pull(repository, content, "v1")
    # Kept, now that there is room: upstream is gone.
    check_pull(repository, content, "v1")
