"""Rot is found, put aside and never served; a peer's copy takes its place; a scrub keeps its pace and survives a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.scrub_site import Site
from twinhull.blobs.rehash import Rehash, is_right
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import BlobUnknown, Conflict, Invalid
from twinhull.replication.protocol import Fault
from twinhull.upkeep.scrub_notes import ScrubStatus


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A node."""
    with ThreadPoolExecutor(2) as executor:
        made = Site(tmp_path, executor)
        yield made
        made.store.close()


async def test_whole_blobs_are_hashed_and_nothing_is_found(site: Site) -> None:
    for seed in ("one", "two", "three"):
        site.blob(seed)
    await site.worker.order({"pace_mb_s": 0})
    await site.work()
    latest = site.latest()
    assert (latest.status, latest.blobs, latest.bytes, latest.found) == (ScrubStatus.DONE, 3, 15_000, [])
    assert (latest.total_blobs, latest.total_bytes) == (3, 15_000)


async def test_rotten_blob_is_put_aside_and_a_peers_copy_takes_its_place(site: Site) -> None:
    good, bad, lost = site.blob("good"), site.blob("bad"), site.blob("lost", has_copy=False)
    for digest in (bad, lost):
        site.rot(digest)
    await site.worker.order({"pace_mb_s": 0})
    await site.work()
    found = {one.digest: one for one in site.latest().found}
    assert found.keys() == {bad, lost}
    assert (found[bad].what, found[bad].is_mended) == ("rotten", True)
    assert not found[lost].is_mended
    assert site.latest().left == site.worker.left == 1
    assert is_right(site.blobs, bad)
    assert is_right(site.blobs, good)
    # It is not served, and a human can look at it.
    with pytest.raises(BlobUnknown):
        site.blobs.open(lost)
    assert {path.name for path in (site.directory / "quarantine").iterdir()} == {
        digest.replace(":", "-") for digest in (bad, lost)
    }


async def test_rotten_blob_that_nothing_names_needs_no_copy(site: Site) -> None:
    stray = site.blob("stray", is_named=False)
    site.rot(stray)
    await site.worker.order({"pace_mb_s": 0})
    await site.work()
    assert [(one.digest, one.is_named) for one in site.latest().found] == [(stray, False)]
    assert site.latest().left == 0
    assert site.wanted == []


async def test_blob_that_the_disk_cannot_read_counts_as_rotten(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = site.blob("unreadable")
    step = Rehash.step

    def fail(rehash: Rehash, length: int) -> bool:
        step(rehash, length)
        rehash.unreadable = "Input/output error"
        return False

    with monkeypatch.context() as patched:
        patched.setattr(Rehash, "step", fail)
        await site.worker.order({"pace_mb_s": 0})
        await site.work()
    assert [(one.what, one.is_mended) for one in site.latest().found] == [("unreadable", True)]
    assert is_right(site.blobs, digest)


async def test_missing_blobs_are_told_too(site: Site) -> None:
    gone = digest_of(b"gone")
    site.missing = [Fault(what="blob", kind="blob", key=gone, is_mended=False)]
    await site.worker.order({"pace_mb_s": 0})
    await site.work()
    assert [(one.digest, one.what, one.is_mended) for one in site.latest().found] == [(gone, "missing", False)]


async def test_pace_is_kept(site: Site) -> None:
    site.blob("big", 3_000_000)
    await site.worker.order({})
    # By a clock that stands still, all the time that 3 MB take at 1 MB/s is rest.
    assert await site.work() == pytest.approx(3.0, abs=0.01)


async def test_scrub_goes_on_after_a_restart_and_is_stopped(site: Site) -> None:
    for number in range(8):
        site.blob(f"blob {number}")
    await site.worker.order({"pace_mb_s": 0})
    await site.work(5)
    site.clock.advance(10_000)
    await site.work(1)
    noted = site.latest()
    assert 0 < noted.blobs < 8
    site.start()
    await site.work()
    assert (site.latest().number, site.latest().status, site.latest().blobs) == (1, ScrubStatus.DONE, 8)

    await site.worker.order({"pace_mb_s": 0})
    with pytest.raises(Conflict, match="under way"):
        await site.worker.order({})
    await site.work(3)
    assert await site.worker.stop({}) == {"number": 2}
    await site.work()
    assert site.latest().status is ScrubStatus.STOPPED
    assert await site.worker.stop({}) == {"number": None}


async def test_scrub_is_due_by_its_schedule(site: Site) -> None:
    site.blob("one")
    site.start(interval_s=1000)
    site.clock.advance(999_000)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(site.worker.wait_for_work(), 0.05)
    site.clock.advance(2000)
    await site.work()
    assert (site.latest().trigger, site.latest().status) == ("schedule", ScrubStatus.DONE)
    site.clock.advance(900_000)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(site.worker.wait_for_work(), 0.05)


@pytest.mark.parametrize("pace", [-1, "fast", True, 1e9])
async def test_pace_that_makes_no_sense_is_refused(site: Site, pace: object) -> None:
    with pytest.raises(Invalid, match="pace"):
        await site.worker.order({"pace_mb_s": pace})


async def test_notes_that_cannot_be_read_are_none(site: Site) -> None:
    (site.directory / "scrub.json").write_text("{")
    assert site.notes.read() is None
    assert await site.worker.show({}) == {"scrub": None}
