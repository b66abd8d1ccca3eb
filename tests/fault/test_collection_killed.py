"""A node that is killed while it collects garbage starts again by itself, has all that is named, and collects the rest."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.collections import age_candidates, opened_store, plant_blobs, plant_links, run_gc
from tests.support.images import image
from tests.support.nodes import Cluster, eventually, new_name, running_cluster
from tests.support.pushes import check_pull, push
from tests.support.single import twinhull

GARBAGE: Final = 6_000
KILLS: Final = 2
DAY_S: Final = 86_400.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A node that nothing else is done to."""
    with running_cluster(tmp_path, ("a",)) as running:
        yield running


def test_node_that_is_killed_while_it_collects_keeps_what_is_named(cluster: Cluster) -> None:
    (a,) = cluster
    name, held = new_name(), {f"v{number}": image(f"held {number}", layers=2) for number in range(5)}
    for tag, content in held.items():
        push(a.repository(name), content, tag)
    contents = [f"garbage {number}".encode() for number in range(GARBAGE)]
    digests = plant_blobs([a.data_dir], contents, age_s=DAY_S)
    with opened_store(a.data_dir) as store:
        plant_links(store, name, digests, size=10, age_s=DAY_S)
        age_candidates(store, age_s=DAY_S)
        planted = store.vector()[store.node]

    def progress() -> int:
        """Return how many links were deleted, and how many blobs removed."""
        with opened_store(a.data_dir) as store:
            deleted = store.vector()[store.node] - planted
        return deleted + sum(not a.has_blob(digest) for digest in digests)

    # Of the 12,000 steps there are, the first half deletes links, the second removes bytes.
    moments = sorted(random.Random("when to kill").sample(range(250, 2 * GARBAGE - 500), KILLS))
    left = [GARBAGE]
    for moment in moments:
        command = [str(twinhull()), "gc", "--grace", "1h", "--data-dir", str(a.data_dir)]
        collecting = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda moment=moment: progress() >= moment, what=f"{moment} steps of the collection")  # type: ignore[misc]
        a.kill()
        collecting.wait(30)
        a.start()
        left.append(sum(a.has_blob(digest) for digest in digests))
        assert not any((a.data_dir / "trash").iterdir())
        for tag, content in held.items():
            check_pull(a.repository(name), content, tag)
    # Killed before its end, and not before its beginning.
    assert left[-1] < GARBAGE
    assert [one["status"] for one in run_gc(a.data_dir, "--history")].count("failed") >= 1

    outcome = run_gc(a.data_dir, "--grace", "1h")["outcome"]

    assert outcome["blobs"] == left[-1]
    assert not any(a.has_blob(digest) for digest in digests)
    assert run_gc(a.data_dir, "--grace", "1h", "--walk")["outcome"]["strays"] == 0
    for tag, content in held.items():
        check_pull(a.repository(name), content, tag)
