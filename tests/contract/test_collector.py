"""What a collection removes, what it leaves, and why, on each database."""

from __future__ import annotations

import pytest

from tests.support.collector_site import APP, GRACE_MS, OTHER, Site
from twinhull.jobs.garbage_collections import Outcome
from twinhull.kit.errors import PeerUnavailable
from twinhull.metadata import garbage
from twinhull.records.kinds import BLOB, NODE, content_key


async def test_upload_that_no_manifest_came_to_name_goes_after_the_grace(site: Site) -> None:
    digest = site.blob("abandoned", APP)
    site.clock.advance(GRACE_MS * 3)
    # Its grace begins when it is seen, not when it was pushed.
    assert (await site.collect()).links == 0
    site.clock.advance(GRACE_MS - 1)
    assert (await site.collect()).links == 0
    assert site.blobs.stat(digest) is not None
    site.clock.advance(1)

    outcome = await site.collect()

    assert (outcome.links, outcome.blobs, outcome.freed_bytes) == (1, 1, len("abandoned"))
    assert site.blobs.stat(digest) is None
    assert site.links(digest) == []
    assert site.candidates() == []


async def test_what_a_manifest_names_stays_and_is_no_candidate(site: Site) -> None:
    digest = site.blob("layer", APP)
    site.manifest("app", digest)
    assert site.candidates() == []
    assert await site.collect_later() == Outcome()
    assert site.blobs.stat(digest) is not None
    assert site.links(digest) == [APP]


async def test_blob_goes_a_grace_after_its_last_manifest(site: Site) -> None:
    shared, own = site.blob("shared", APP), site.blob("own", APP)
    first, second = site.manifest("first", shared, own), site.manifest("second", shared)
    site.clock.advance(GRACE_MS * 3)
    site.delete_manifest(first)
    outcome = await site.collect_later()
    assert (outcome.links, outcome.blobs) == (1, 1)
    assert site.blobs.stat(own) is None
    assert site.blobs.stat(shared) is not None
    site.delete_manifest(second)
    assert (await site.collect_later()).blobs == 1
    assert site.blobs.stat(shared) is None


async def test_bytes_stay_for_another_repository_that_links_or_names_them(site: Site) -> None:
    linked, named = site.blob("linked", APP), site.blob("named", APP)
    site.manifest("elsewhere", named, repository=OTHER)
    await site.collect()
    site.clock.advance(GRACE_MS + 1)
    site.link(linked, OTHER)
    outcome = await site.collect()
    assert (outcome.links, outcome.blobs) == (2, 0)
    assert site.blobs.stat(linked) is not None
    assert site.blobs.stat(named) is not None
    # And one day they go.
    assert (await site.collect_later()).blobs == 1
    assert site.blobs.stat(linked) is None


async def test_link_that_is_renewed_begins_a_new_grace(site: Site) -> None:
    digest = site.blob("asked for", APP)
    await site.collect()
    site.clock.advance(GRACE_MS - 1)
    site.link(digest, APP)
    site.clock.advance(GRACE_MS - 1)
    assert (await site.collect()).links == 0
    site.clock.advance(GRACE_MS + 1)
    assert (await site.collect()).blobs == 1


async def test_manifest_that_comes_in_the_grace_keeps_its_blobs(site: Site) -> None:
    digest = site.blob("pushed slowly", APP)
    await site.collect()
    site.clock.advance(GRACE_MS + 1)
    site.manifest("late", digest)
    assert await site.collect() == Outcome()
    assert site.blobs.stat(digest) is not None


# -- other members -----------------------------------------------------------------------------------------------------


async def test_bytes_that_a_member_needs_stay_and_are_asked_about_again(site: Site) -> None:
    digest = site.blob("needed elsewhere", APP)
    site.members.needs = {digest}
    outcome = await site.collect_later()
    assert (outcome.links, outcome.blobs, outcome.kept) == (1, 0, 1)
    assert site.blobs.stat(digest) is not None
    site.members.needs = set()
    assert (await site.collect()).blobs == 1


async def test_bytes_stay_as_long_as_a_member_cannot_be_asked(site: Site) -> None:
    digest = site.blob("who knows", APP)
    site.members.is_silent = True
    with pytest.raises(PeerUnavailable, match="node b cannot be asked"):
        await site.collect_later()
    assert site.links(digest) == []
    assert site.blobs.stat(digest) is not None
    site.members.is_silent = False
    assert (await site.collect()).blobs == 1


async def test_members_are_asked_only_about_what_nothing_here_names(site: Site) -> None:
    named, garbage_ = site.blob("named", APP), site.blob("garbage", APP)
    site.manifest("elsewhere", named, repository=OTHER)
    await site.collect_later()
    assert site.members.asked_for == [garbage_]


async def test_blob_that_is_named_while_the_members_are_asked_stays(site: Site) -> None:
    digest = site.blob("mounted at the last moment", APP)
    site.members.before_answer = lambda: site.link(digest, OTHER)
    outcome = await site.collect_later()
    assert outcome.blobs == 0
    assert site.blobs.stat(digest) is not None
    assert site.links(digest) == [OTHER]


async def test_blob_that_loses_its_name_while_the_members_are_asked_about_others_stays(site: Site) -> None:
    site.blob("asked about", APP)
    digest = site.blob("not asked about", APP, OTHER)
    manifest = site.manifest("elsewhere", digest, repository=OTHER)
    await site.collect()
    site.clock.advance(GRACE_MS + 1)

    def lose() -> None:
        site.delete_manifest(manifest, OTHER)
        with site.store.write() as transaction:
            transaction.delete(BLOB, content_key(OTHER, digest))

    site.members.before_answer = lose
    outcome = await site.collect()
    assert (outcome.links, outcome.blobs) == (2, 1)
    assert site.blobs.stat(digest) is not None
    # Nor without its own grace, and without the members' word.
    site.members.before_answer, site.members.asked_for = lambda: None, []
    assert (await site.collect()).blobs == 0
    assert (await site.collect_later()).blobs == 1
    assert site.members.asked_for == [digest]


async def test_bytes_wait_for_the_grace_of_the_name_that_was_lost_last(site: Site) -> None:
    digest = site.blob("named twice", APP)
    manifest = site.manifest("elsewhere", digest, repository=OTHER)
    await site.collect()
    site.clock.advance(GRACE_MS + 1)
    # No link is left, and no manifest in the first repository: the bytes are looked at, and named in the second.
    assert (await site.collect()).links == 1
    with site.store.write() as transaction:
        garbage.add_strays(transaction.connection, [digest], 1)
    site.delete_manifest(manifest, OTHER)
    assert (await site.collect()).blobs == 0
    site.clock.advance(GRACE_MS + 1)
    assert (await site.collect()).blobs == 1


async def test_blob_that_is_stored_again_while_the_members_are_asked_stays(site: Site) -> None:
    digest = site.blob("pushed again", APP)
    site.members.before_answer = lambda: site.blobs.put(digest, b"pushed again")
    outcome = await site.collect_later()
    assert (outcome.blobs, outcome.kept) == (0, 1)
    assert site.blobs.stat(digest) is not None
    site.members.before_answer = lambda: None
    site.clock.advance(GRACE_MS + 1)
    assert (await site.collect()).blobs == 1


async def test_nothing_goes_when_somebody_joins_while_the_members_are_asked(site: Site) -> None:
    digest = site.blob("newcomer", APP)

    def join() -> None:
        with site.store.write() as transaction:
            transaction.create(NODE, "n9", {"name": "n9", "slot": 9})

    site.members.before_answer = join
    outcome = await site.collect_later()
    assert (outcome.blobs, outcome.kept) == (0, 1)
    assert site.blobs.stat(digest) is not None
    site.members.before_answer, site.members.members = lambda: None, frozenset({"n9"})
    assert (await site.collect()).blobs == 1


def test_what_lost_its_name_lately_is_needed_in_the_eyes_of_others(site: Site) -> None:
    digest, named, other = site.blob("lately", APP), site.blob("named", APP), site.blob("unknown")
    site.manifest("app", named)
    with site.store.write() as transaction:
        transaction.delete(BLOB, content_key(APP, digest))

    def needed(quiet_s: float) -> set[str]:
        with site.store.read() as connection:
            return garbage.needed_among(connection, [digest, named, other], site.clock.unix_ms() - int(quiet_s * 1000))

    assert needed(60) == {digest, named}
    with site.store.write() as transaction:
        garbage.begin_grace(transaction.connection, site.clock.unix_ms())
    site.clock.advance(60_000)
    assert needed(61) == {digest, named}
    assert needed(60) == {named}
    site.link(digest, APP)
    with site.store.write() as transaction:
        garbage.begin_grace(transaction.connection, 1)
    assert needed(60) == {named, digest}
    with site.store.read() as connection:
        needed_then = garbage.needed_among(connection, [digest, named], site.clock.unix_ms(), {(digest, APP), (named, APP)})
    assert needed_then == {named}
