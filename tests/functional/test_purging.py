"""Old audit records go when a purge is asked for, or due: those that it names, and no others."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.accounts import AccountsNode, make_user, site
from tests.support.jobs import settled
from twinhull.catalog.audit import Deed, record_deed
from twinhull.catalog.purges import is_purged, scheduled_purges
from twinhull.jobs.access import Access
from twinhull.jobs.runner import JobRunner
from twinhull.jobs.scheduler import begin_due, due_now_ms
from twinhull.metadata.audit import list_audit_records
from twinhull.records.kinds import AUDIT
from twinhull.upkeep.purging import Purging

__all__ = ["site"]


class Agent:
    """What the agent of a node does for purges, step by step."""

    def __init__(self, node: AccountsNode) -> None:
        access = Access(node.store, node.executor, lambda _: None)
        self.runner = JobRunner([Purging(access)], access, jitter=random.Random(1))
        self.node = node

    async def purge(self, **parameters: object) -> dict[str, Any]:
        """Ask for a purge, let it be done, and return it as it is shown."""
        body = {"schedule": {"type": "Manual"}, "parameters": parameters}
        number = await self.node.admin.create("/system/purgeaudit/schedule", body)
        await settled(self.node.store, self.runner, "PURGE_AUDIT_LOG")
        found: dict[str, Any] = await self.node.admin.ok(200, "GET", f"/system/purgeaudit/{number}")
        assert found["job_status"] == "Success"
        return found


@pytest.fixture
async def agent(site: AccountsNode) -> AsyncIterator[Agent]:
    made = Agent(site)
    yield made
    await made.runner.close()


def write_old(site: AccountsNode, operation: str, *, resource_type: str = "artifact", count: int = 1) -> None:
    """Write records that are two days old."""
    with site.store.write() as transaction:
        for number in range(count):
            deed = Deed(username="alice", operation=operation, resource_type=resource_type, resource=f"p/r:{number}")
            key = f"{site.store.node}/{record_deed(transaction, deed)}"
            transaction.put(AUDIT, key, {"created_ms": transaction.now_ms() - 2 * 24 * 3600 * 1000 + number})


def kept(site: AccountsNode) -> dict[str, int]:
    """Return how many audit records there are of each event."""
    with site.store.read() as connection:
        found, _ = list_audit_records(connection)
    return dict(Counter(f"{one.operation}_{one.resource_type}" for one in found))


async def test_old_records_of_named_events_go_and_others_stay(agent: Agent, site: AccountsNode) -> None:
    await make_user(site, "bob")
    write_old(site, "pull", count=30)
    write_old(site, "create")
    write_old(site, "create", resource_type="user")
    before = kept(site)
    found = await agent.purge(audit_retention_hour=24, include_event_types="pull_artifact,create_user", dry_run=False)
    after = kept(site)
    assert before["pull_artifact"] == 30
    assert after == {**{name: count for name, count in before.items() if name != "pull_artifact"}, "create_user": 1}
    log = (await site.admin("GET", f"/system/purgeaudit/{found['id']}/log")).body
    assert b"31 audit records older than 24 hours are purged" in log


async def test_dry_run_counts_and_takes_nothing(agent: Agent, site: AccountsNode) -> None:
    write_old(site, "pull", count=3)
    found = await agent.purge(audit_retention_hour=1, include_operations="pull", dry_run=True)
    assert (kept(site))["pull_artifact"] == 3
    log = (await site.admin("GET", f"/system/purgeaudit/{found['id']}/log")).body
    assert b"3 audit records older than 1 hours would be purged" in log


async def test_young_records_stay(agent: Agent, site: AccountsNode) -> None:
    write_old(site, "pull")
    await agent.purge(audit_retention_hour=72, include_operations="pull")
    assert (kept(site))["pull_artifact"] == 1


async def test_more_than_a_page_is_purged(agent: Agent, site: AccountsNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinhull.upkeep.purging._PAGE", 4)
    write_old(site, "pull", count=10)
    write_old(site, "create", count=10)
    await agent.purge(audit_retention_hour=1, include_operations="pull")
    assert "pull_artifact" not in kept(site)
    assert (kept(site))["create_artifact"] == 10


async def test_purge_is_begun_by_the_schedule_with_what_it_says(agent: Agent, site: AccountsNode) -> None:
    write_old(site, "pull", count=2)
    schedule = {"type": "Hourly", "cron": "0 0 * * * *"}
    parameters = {"audit_retention_hour": 1, "include_operations": "pull"}
    await site.admin.ok(201, "POST", "/system/purgeaudit/schedule", {"schedule": schedule, "parameters": parameters})
    with site.store.write() as transaction:
        [due] = scheduled_purges(transaction.connection)
        moment_ms = due_now_ms(due, begun_ms=0, now_ms=due.since_ms + 3600 * 1000)
        assert moment_ms is not None
        assert begin_due(transaction, due, moment_ms)
    await settled(site.store, agent.runner, "PURGE_AUDIT_LOG")
    assert "pull_artifact" not in kept(site)
    [shown] = await site.admin.ok(200, "GET", "/system/purgeaudit")
    assert (shown["job_kind"], shown["job_status"]) == ("SCHEDULE", "Success")
    await site.admin.ok(200, "PUT", "/system/purgeaudit/schedule", {"schedule": {"type": "None"}, "parameters": parameters})
    with site.store.read() as connection:
        assert scheduled_purges(connection) == []


@pytest.mark.parametrize(
    ("parameters", "is_meant"),
    [
        ({"include_operations": "create, pull"}, True),
        ({"include_event_types": "delete_artifact, pull_artifact"}, True),
        ({"include_event_types": "pull_user"}, False),
        ({"include_operations": ""}, False),
        ({"include_operations": "", "include_event_types": ","}, False),
        ({}, False),
    ],
)
def test_purge_takes_what_it_names(parameters: dict[str, str], *, is_meant: bool) -> None:
    assert is_purged(parameters, "pull", "artifact") is is_meant
