"""Events that somebody else told of, or did not: of a node that was restored, and of one that was removed."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from msgspec import structs

from tests.support.accounts import AccountsNode, make_project, push_image, site
from tests.support.hooks import ENTRANCE, Hooks, hooks, receiver
from tests.support.metadata import exchange, open_sqlite
from tests.support.receiver import Receiver
from twinhull.hooks.delivery import Courier, Delivering
from twinhull.hooks.inheriting import Inheriting
from twinhull.hooks.reading import Deeds
from twinhull.jobs.access import Access
from twinhull.jobs.runner import JobRunner
from twinhull.metadata.migrate import migrate
from twinhull.metadata.store import Store
from twinhull.records.change import Change, origin_of
from twinhull.records.kinds import AUDIT, NODE

__all__ = ["hooks", "receiver", "site"]


def taken_back(site: AccountsNode) -> list[Change]:
    """Return the audit records of artifacts as a restored node takes them back from its peers: under the origin that it had."""
    changes = [change for _, change in site.store.changes_of(site.store.origin, 0, 1000) if change.kind == AUDIT.name]
    return [structs.replace(change, origin=origin_of(site.store.node, "00ff")) for change in changes]


async def test_what_a_restored_node_takes_back_is_told_if_it_was_not(hooks: Hooks, site: AccountsNode) -> None:
    project = await make_project(site.admin, "team")
    await hooks.policy(project, "PUSH_ARTIFACT")
    await push_image(site.admin, "team/app")
    assert len(await hooks.told()) == 1
    await push_image(site.admin, "team/late")
    with site.store.write() as transaction:
        Deeds(node=site.store.node, entrance=ENTRANCE).handle(transaction, taken_back(site))
    await hooks.runner.work()
    await asyncio.to_thread(hooks.receiver.wait_for, 2)
    first, late = hooks.receiver.deliveries
    assert late.body["event_data"]["repository"]["name"] == "late"
    assert first.event_id != late.event_id


async def test_last_deeds_of_a_removed_node_are_told_once_by_another(
    hooks: Hooks, site: AccountsNode, receiver: Receiver, tmp_path: Path
) -> None:
    project = await make_project(site.admin, "team")
    await hooks.policy(project, "PUSH_ARTIFACT")
    await push_image(site.admin, "team/app")
    assert len(await hooks.told()) == 1
    await push_image(site.admin, "team/late")
    database = open_sqlite(tmp_path / "heir")
    migrate(database)
    heir = Store(database, node="node2", slot=1, clock=site.store.clock)
    exchange(site.store, heir)
    access = Access(heir, site.executor, lambda _: None)
    inheriting = Inheriting(Deeds(node="node2", entrance=ENTRANCE), access, is_heir=lambda: True)
    await inheriting.work()
    assert inheriting.told == 0
    with heir.write() as transaction:
        transaction.delete(NODE, "node1")
    for _ in range(2):
        await inheriting.work()
    assert inheriting.told == 1
    runner = JobRunner([Delivering(Courier(), access, site.sealer, concurrency=4)], access, jitter=random.Random(1))
    await runner.work()
    [_, late] = await asyncio.to_thread(receiver.wait_for, 2)
    await runner.close()
    assert late.body["event_data"]["repository"]["repo_full_name"] == "team/late"
    # It was not gone after all, and tells of it itself: whoever is told twice knows it by the id.
    await hooks.settle()
    assert [one.event_id for one in receiver.deliveries[1:]] == [late.event_id] * 2
    database.close()
