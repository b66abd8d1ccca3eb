"""What a collection does by its orders, and what it leaves to the next one, on each database."""

from __future__ import annotations

import pytest

from tests.support.collector_site import APP, GRACE_MS, OTHER, Site
from twinhull.jobs.garbage_collections import Outcome
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import Conflict
from twinhull.metadata import content
from twinhull.metadata.projections.project import rebuild_projections


async def test_dry_run_tells_what_would_go_and_changes_nothing(site: Site) -> None:
    digests = [site.blob(f"garbage {number}", APP) for number in range(3)]
    site.link(digests[0], OTHER)
    site.blob("kept", APP)
    site.manifest("kept", digest_of(b"kept"))
    await site.collect()
    site.clock.advance(GRACE_MS + 1)
    vector = site.store.vector()

    told = await site.collect(dry_run=True)

    assert (told.links, told.blobs, told.freed_bytes) == (4, 3, 27)
    assert site.store.vector() == vector
    assert all(site.blobs.stat(digest) is not None for digest in digests)
    done = await site.collect()
    assert (done.links, done.blobs, done.freed_bytes) == (told.links, told.blobs, told.freed_bytes)


async def test_blob_without_a_record_is_found_by_the_walk_alone(site: Site) -> None:
    site.blob("left by a crash")
    named = site.blob("named", APP)
    site.manifest("app", named)
    assert await site.collect_later() == Outcome()
    site.clock.advance(1)
    outcome = await site.collect(walk=True)
    assert (outcome.strays, outcome.blobs) == (1, 1)
    assert list(site.blobs.digests()) == [named]


async def test_walk_spares_a_blob_that_is_being_taken_in(site: Site) -> None:
    digest = site.blob("its link is being written")
    site.clock.advance(GRACE_MS - 1)
    outcome = await site.collect(walk=True)
    assert outcome.blobs == 0
    assert site.blobs.stat(digest) is not None


async def test_untagged_manifests_go_when_ordered_and_what_they_alone_hold_with_them(site: Site) -> None:
    layer = site.blob("layer", APP)
    child = site.manifest("child", layer)
    index = site.manifest("index", children=[child])
    tagged = site.manifest("tagged", tag="v1")
    signature = site.manifest("signature", subject=tagged)
    orphan = site.manifest("orphaned signature", subject=index)
    site.clock.advance(GRACE_MS + 1)
    young = site.manifest("young")
    assert await site.collect() == Outcome()

    outcome = await site.collect(delete_untagged=True)

    assert outcome.manifests == 3
    with site.store.read() as connection:
        left = content.visible_manifests(connection, APP, [child, index, tagged, signature, orphan, young])
    assert set(left) == {tagged, signature, young}
    assert (await site.collect_later()).blobs == 1


async def test_collection_that_is_left_in_the_middle_is_gone_on_with_later(site: Site) -> None:
    count = 600
    for number in range(count):
        site.blob(f"garbage {number}", APP)
    await site.collect()
    site.clock.advance(GRACE_MS + 1)
    first = await site.collect(steps=2)
    assert 0 < first.links < count
    second = await site.collect()
    assert first.links + second.links == count
    assert (second.blobs, site.candidates()) == (count, [])


async def test_nothing_is_removed_while_a_backup_holds_the_blobs(site: Site) -> None:
    digest = site.blob("in a backup", APP)
    await site.collect()
    site.clock.advance(GRACE_MS + 1)
    with site.blobs.held(), pytest.raises(Conflict):
        await site.collect()
    assert site.blobs.stat(digest) is not None
    assert (await site.collect()).blobs == 1


def test_candidates_are_the_same_after_the_projections_were_rebuilt(site: Site) -> None:
    used, unused = site.blob("used", APP), site.blob("unused", APP)
    site.manifest("app", used)
    assert site.candidates() == [unused]
    with site.store.write() as transaction:
        rebuild_projections(transaction.connection)
    assert site.candidates() == [unused]
