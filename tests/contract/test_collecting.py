"""The worker takes orders from the log, makes its own by schedule, and writes down how each collection ended."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.support.collector_site import APP, GRACE_MS, OTHER, Site
from twinhull.catalog.documents import set_document
from twinhull.catalog.schedules import GC
from twinhull.config.settings import GcSettings
from twinhull.jobs import garbage_collections as collections
from twinhull.jobs.garbage_collections import Collection, Order, Outcome, Status
from twinhull.kit.errors import Conflict, Invalid, NotFound, Unavailable
from twinhull.metadata.executions import STOP_ASKED
from twinhull.metadata.filtering import EVERYTHING
from twinhull.observe import families
from twinhull.observe.metrics import Metrics
from twinhull.records.kinds import EXECUTION, SCHEDULE, owned_key
from twinhull.upkeep.collecting import Collecting
from twinhull.upkeep.gc_orders import GcOrders

DAY_S: Final = 86_400.0
GRACE_S: Final = GRACE_MS / 1000


class Office:
    """A worker with what it needs."""

    def __init__(self, site: Site, directory: Path, settings: GcSettings) -> None:
        """Put it together."""
        self.site = site
        self.metrics = Metrics(directory / "metrics", "agent", site.clock)
        self.worker = self.restarted(settings)
        self.orders = GcOrders(self.worker, site.access)

    def restarted(self, settings: GcSettings) -> Collecting:
        """Return the worker as a node that was just started has it."""
        return Collecting(
            self.site.collector,
            access=self.site.access,
            blobs=self.site.blobs,
            clock=self.site.clock,
            settings=settings,
            metrics=self.metrics,
        )

    async def order(self, **wanted: object) -> int:
        """Order a collection."""
        answer = await self.orders.order(wanted)
        assert isinstance(answer, dict)
        return int(answer["id"])

    async def work(self, steps: int = 1000) -> None:
        """Work until all is done, or so many steps are."""
        await self.worker.wait_for_work()
        while steps and await self.worker.work() is not None:
            steps -= 1

    async def look(self) -> None:
        """Let the worker look around once, when it has nothing to do but orders of its own."""
        await self.worker._note_now_and_then()  # noqa: SLF001 - else it would be waited for, for real seconds

    def latest(self) -> Collection:
        """Return the collection that was ordered last."""
        with self.site.store.read() as connection:
            return collections.latest_collections(connection, self.site.store.node, 1)[0]

    def count(self) -> int:
        """Return how many collections there are."""
        with self.site.store.read() as connection:
            return collections.list_collections(connection, EVERYTHING)[1]


@pytest.fixture
def settings() -> GcSettings:
    """A collection a day, a walk a week."""
    return GcSettings(interval_s=DAY_S, grace_s=GRACE_S, walk_interval_s=7 * DAY_S)


@pytest.fixture
def office(site: Site, tmp_path: Path, settings: GcSettings) -> Office:
    """A worker that has just been started."""
    return Office(site, tmp_path, settings)


async def test_ordered_collection_is_done_and_its_outcome_kept(office: Office) -> None:
    office.site.blob("garbage", APP)
    await office.look()
    office.site.clock.advance(GRACE_MS + 1)
    number = await office.order()
    with pytest.raises(Conflict, match="a collection is under way"):
        await office.order()

    await office.work()

    done = office.latest()
    assert (done.id, done.status, done.has_ended, done.error) == (number, Status.DONE, True, "")
    assert done.outcome == Outcome(links=1, blobs=1, freed_bytes=len("garbage"))
    assert done.asked_ms <= done.started_ms <= done.ended_ms
    assert f"{families.GC_BLOBS.name} 1" in office.metrics.render()
    report = collections.report_of(done)
    assert f"collection {number} asked for; trigger: manual, grace: the node's\n" in report
    assert "removed 0 manifests, 1 links, 1 blobs of 7 bytes" in report
    assert report.endswith("ended: done\n")
    shown = await office.orders.show({"id": number})
    assert isinstance(shown, dict)
    assert shown["collections"][0]["outcome"]["freed_bytes"] == len("garbage")
    assert shown["collections"][0]["ended"]


async def test_figures_of_what_is_stored_and_what_may_go_are_told(office: Office) -> None:
    named, unnamed = office.site.blob("named", APP), office.site.blob("unnamed", APP)
    office.site.link(named, OTHER)
    office.site.manifest("one", named)
    office.site.manifest("two", named, repository=OTHER)
    await office.look()
    shown = office.metrics.render()
    assert f"{families.STORAGE_BLOBS.name} 2" in shown
    assert f"{families.STORAGE_BYTES.name} 2" in shown
    assert f"{families.GC_CANDIDATES.name} 1" in shown
    assert office.site.candidates() == [unnamed]


async def test_order_has_its_own_grace_or_that_of_the_node(office: Office) -> None:
    office.site.blob("garbage", APP)
    await office.order()
    await office.work()
    assert office.latest().outcome.blobs == 0
    await office.order(grace_s=0)
    office.site.clock.advance(1)
    await office.work()
    assert office.latest().outcome.blobs == 1


async def test_collection_that_could_not_ask_a_member_says_so_and_is_done(office: Office) -> None:
    office.site.blob("garbage", APP)
    office.site.members.is_silent = True
    await office.order(grace_s=0)
    office.site.clock.advance(1)
    await office.work()
    done = office.latest()
    assert (done.status, done.outcome.links, done.outcome.blobs) == (Status.DONE, 1, 0)
    assert "node b cannot be asked" in done.outcome.note


async def test_collection_that_fails_says_why_and_the_next_one_can_be_ordered(office: Office) -> None:
    office.site.blob("garbage", APP)

    def fail() -> None:
        raise Unavailable("the disk does not answer")

    office.site.members.before_answer = fail
    await office.order(grace_s=0)
    office.site.clock.advance(1)
    with pytest.raises(Unavailable):
        await office.work()
    assert (office.latest().status, office.latest().error) == (Status.FAILED, "the disk does not answer")
    # The runner comes back after a pause, and finds nothing to do.
    assert await office.worker.work() is None
    office.site.members.before_answer = lambda: None
    await office.order(grace_s=0)
    await office.work()
    assert office.latest().outcome.blobs == 1


async def test_collection_stops_when_it_is_asked_to(office: Office) -> None:
    for number in range(600):
        office.site.blob(f"garbage {number}", APP)
    assert await office.orders.stop({}) == {"id": None}
    number = await office.order(grace_s=0)
    office.site.clock.advance(1)
    await office.work(steps=1)
    assert office.worker.status()["collection"] == number
    assert await office.orders.stop({}) == {"id": number}
    assert office.latest().status is Status.STOPPING

    assert await office.worker.work() is None

    assert office.latest().status is Status.STOPPED
    assert 0 < office.latest().outcome.links < 600
    assert office.worker.status() == {"collection": None}


async def test_order_that_is_stopped_before_it_begins_is_never_begun(office: Office) -> None:
    await office.order()
    await office.orders.stop({})
    assert office.latest().status is Status.STOPPED
    assert await office.worker.work() is None


async def test_order_that_another_node_wants_stopped_is_never_begun(office: Office) -> None:
    key = owned_key(office.site.store.node, await office.order())
    # As a peer's change has it, which this node's log brings.
    await office.site.access.write(lambda transaction: transaction.put(EXECUTION, key, {STOP_ASKED: True}))
    assert office.latest().status is Status.STOPPING
    await office.work()
    assert office.latest().status is Status.STOPPED
    assert not office.latest().started_ms


async def test_collection_under_way_at_a_restart_has_failed(office: Office, settings: GcSettings) -> None:
    office.site.blob("garbage", APP)
    await office.order(grace_s=0)
    office.site.clock.advance(1)
    await office.work(steps=1)
    assert office.latest().status is Status.RUNNING
    office.worker = office.restarted(settings)
    office.orders = GcOrders(office.worker, office.site.access)
    await office.site.access.write(collections.fail_unfinished)
    assert (office.latest().status, office.latest().error) == (Status.FAILED, "the node was stopped meanwhile")
    await office.order()
    await office.work()
    assert office.latest().status is Status.DONE


async def test_schedule_orders_one_a_day_and_a_walk_a_week(office: Office) -> None:
    walks = []
    for day in range(15):
        await office.look()
        assert office.count() == day
        office.site.clock.advance(int(DAY_S * 1000))
        await office.look()
        assert office.latest().order.trigger == "schedule"
        walks.append(office.latest().order.walk)
        await office.work()
        assert office.latest().status is Status.DONE
        office.site.clock.advance(60_000)
    assert [day for day, walk in enumerate(walks, start=1) if walk] == [7, 14]


async def test_nothing_is_ordered_without_a_schedule(site: Site, tmp_path: Path) -> None:
    office = Office(site, tmp_path, GcSettings(interval_s=0))
    site.clock.advance(int(400 * DAY_S * 1000))
    await office.look()
    assert office.count() == 0


async def test_orders_that_make_no_sense_are_refused(office: Office) -> None:
    for wanted in ({"grace_s": -1}, {"grace_s": "soon"}, {"dry_run": "perhaps"}):
        with pytest.raises(Invalid):
            await office.orders.order(wanted)
    with pytest.raises(Invalid):
        await office.orders.show({"id": "x"})
    with pytest.raises(NotFound):
        await office.orders.show({"id": 7})
    assert office.count() == 0


class TestByTheClustersSchedule:
    """A schedule that was set through the API holds instead of the node's own interval."""

    @staticmethod
    def set_schedule(site: Site, cron: str, **parameters: bool) -> None:
        fields = {"type": "Custom", "cron": cron, "parameters": parameters}
        with site.store.write() as transaction:
            set_document(transaction, SCHEDULE, fields, name=GC)

    async def test_collection_is_ordered_when_the_schedule_says_so(self, office: Office, site: Site) -> None:
        # The site's clock begins at 22:13:20.
        self.set_schedule(site, "0 0 23 * * *", delete_untagged=True)
        await office.look()
        site.clock.advance(46 * 60_000)
        await office.look()
        assert office.count() == 0
        site.clock.advance(60_000)
        await office.look()
        assert office.latest().order == Order(delete_untagged=True, trigger="schedule")
        await office.work()
        site.clock.advance(23 * 3_600_000)
        await office.look()
        assert office.count() == 1
        site.clock.advance(3_600_000)
        await office.look()
        assert office.count() == 2

    async def test_moment_before_the_schedule_was_set_is_not_made_up_for(self, office: Office, site: Site) -> None:
        site.clock.advance(3 * 86_400_000)
        self.set_schedule(site, "0 0 23 * * *")
        await office.look()
        assert office.count() == 0

    async def test_schedule_holds_where_the_node_itself_would_never_collect(self, site: Site, tmp_path: Path) -> None:
        office = Office(site, tmp_path, GcSettings(interval_s=0))
        self.set_schedule(site, "0 * * * * *")
        site.clock.advance(61_000)
        await office.look()
        assert office.count() == 1
