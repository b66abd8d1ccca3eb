"""Collections of garbage, the dashboard of jobs, the disk and the security hub at Harbor's paths."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.accounts import PASSWORD, AccountsNode, make_user, rows, site
from twinhull.metadata import garbage_collections as queries
from twinhull.metadata.garbage_collections import Order, Outcome, Status

__all__ = ["site"]

ADMINS = [
    ("GET", "/system/gc"),
    ("GET", "/system/gc/1"),
    ("PUT", "/system/gc/1"),
    ("GET", "/system/gc/1/log"),
    ("GET", "/jobservice/pools"),
    ("GET", "/jobservice/pools/all/workers"),
    ("PUT", "/jobservice/jobs/gc-1"),
    ("GET", "/jobservice/jobs/gc-1/log"),
    ("GET", "/jobservice/queues"),
    ("PUT", "/jobservice/queues/GARBAGE_COLLECTION"),
    ("GET", "/security/summary"),
    ("GET", "/security/vul"),
    ("GET", "/systeminfo/volumes"),
    ("GET", "/replication/adapters"),
    ("GET", "/replication/adapterinfos"),
]


def order(site: AccountsNode, wanted: Order | None = None) -> int:
    with site.store.write() as transaction:
        return queries.order_collection(transaction.connection, wanted or Order(), transaction.now_ms())


def begin(site: AccountsNode) -> None:
    with site.store.write() as transaction:
        queries.begin_collection(transaction.connection, transaction.now_ms())


def end(site: AccountsNode, number: int, status: Status = Status.DONE) -> None:
    with site.store.write() as transaction:
        queries.end_collection(transaction.connection, number, status, Outcome(blobs=3), now_ms=transaction.now_ms())


async def shown(site: AccountsNode, number: int) -> dict[str, Any]:
    found: dict[str, Any] = await site.admin.ok(200, "GET", f"/system/gc/{number}")
    return found


@pytest.mark.parametrize(("method", "path"), ADMINS)
async def test_only_administrators_see_to_the_node(site: AccountsNode, method: str, path: str) -> None:
    order(site)
    await make_user(site, "alice")
    assert (await site.anonymous(method, path, {})).status == 401
    assert (await site.user("alice", PASSWORD)(method, path, {})).status == 403
    assert (await site.admin(method, path, {})).status == 200


class TestCollections:
    async def test_collection_is_shown_in_harbors_words(self, site: AccountsNode) -> None:
        number = order(site, Order(delete_untagged=True, dry_run=True))
        found = await shown(site, number)
        assert (found["job_name"], found["job_kind"], found["job_status"]) == ("GARBAGE_COLLECTION", "MANUAL", "Pending")
        assert found["job_parameters"] == '{"delete_untagged":true,"dry_run":true,"time_window":2}'
        assert found["schedule"] == {"type": "Manual"}
        begin(site)
        assert (await shown(site, number))["job_status"] == "Running"
        end(site, number)
        assert (await shown(site, number))["job_status"] == "Success"
        reply = await site.admin("GET", f"/system/gc/{number}/log")
        assert reply.status == 200
        assert b"would remove 0 manifests, 0 links, 3 blobs" in reply.body

    async def test_list_has_the_newest_first_and_pages(self, site: AccountsNode) -> None:
        for _ in range(3):
            end(site, order(site))
        reply = await site.admin("GET", "/system/gc?page=1&page_size=2")
        assert [one["id"] for one in rows(reply)] == [3, 2]
        assert reply["x-total-count"] == "3"
        assert reply["link"] == '</api/v2.0/system/gc?page=2&page_size=2>; rel="next"'
        assert [one["id"] for one in await site.admin.ok(200, "GET", "/system/gc?page=2&page_size=2")] == [1]
        assert len(await site.admin.ok(200, "GET", "/system/gc?page_size=0")) == 3

    async def test_collection_under_way_is_asked_to_stop(self, site: AccountsNode) -> None:
        number = order(site)
        begin(site)
        await site.admin.ok(200, "PUT", f"/system/gc/{number}")
        with site.store.read() as connection:
            assert queries.is_stopping(connection, number)
        end(site, number, Status.STOPPED)
        await site.admin.ok(200, "PUT", f"/system/gc/{number}")
        assert (await shown(site, number))["job_status"] == "Stopped"

    @pytest.mark.parametrize(
        ("method", "path", "message"),
        [
            ("GET", "/system/gc/99999", "garbage collection execution 99999 not found"),
            ("PUT", "/system/gc/99999", "garbage collection execution 99999 not found"),
            ("GET", "/system/gc/99999/log", "garbage collection 99999 log is not found"),
            ("GET", "/jobservice/jobs/gc-99999/log", "job gc-99999 not found"),
            ("PUT", "/jobservice/jobs/other", "job other not found"),
            ("GET", "/jobservice/pools/other/workers", "worker pool other not found"),
        ],
    )
    async def test_what_is_not_there_is_not_found(self, site: AccountsNode, method: str, path: str, message: str) -> None:
        error = (await site.admin.ok(404, method, path))["errors"][0]
        assert error == {"code": "NOT_FOUND", "message": message}
        assert (await site.admin("GET", "/system/gc/x")).status == 400


class TestJobs:
    async def test_waiting_collection_is_in_the_queue_and_a_running_one_with_the_worker(self, site: AccountsNode) -> None:
        number = order(site)
        [queue] = await site.admin.ok(200, "GET", "/jobservice/queues")
        assert (queue["job_type"], queue["count"], queue["paused"]) == ("GARBAGE_COLLECTION", 1, False)
        [pool] = await site.admin.ok(200, "GET", "/jobservice/pools")
        [idle] = await site.admin.ok(200, "GET", f"/jobservice/pools/{pool['worker_pool_id']}/workers")
        assert "job_id" not in idle
        begin(site)
        [busy] = await site.admin.ok(200, "GET", "/jobservice/pools/all/workers")
        assert (busy["job_name"], busy["job_id"]) == ("GARBAGE_COLLECTION", f"gc-{number}")
        assert (await site.admin.ok(200, "GET", "/jobservice/queues"))[0]["count"] == 0
        await site.admin.ok(200, "PUT", f"/jobservice/jobs/{busy['job_id']}")
        with site.store.read() as connection:
            assert queries.is_stopping(connection, number)

    async def test_queue_is_emptied_and_never_paused(self, site: AccountsNode) -> None:
        number = order(site)
        path = "/jobservice/queues/GARBAGE_COLLECTION"
        refused = await site.admin.ok(412, "PUT", path, {"action": "pause"})
        assert refused["errors"][0]["code"] == "PRECONDITION"
        assert (await site.admin("PUT", path, {"action": "bogus"})).status == 422
        await site.admin.ok(200, "PUT", path, {"action": "resume"})
        assert (await shown(site, number))["job_status"] == "Pending"
        await site.admin.ok(200, "PUT", path, {"action": "stop"})
        assert (await shown(site, number))["job_status"] == "Stopped"
        await site.admin.ok(404, "PUT", "/jobservice/queues/OTHER", {"action": "stop"})

    async def test_all_jobs_are_stopped_at_once(self, site: AccountsNode) -> None:
        number = order(site)
        await site.admin.ok(200, "PUT", "/jobservice/jobs/all")
        assert (await shown(site, number))["job_status"] == "Stopped"


async def test_volume_is_the_one_of_the_data_directory(site: AccountsNode) -> None:
    [volume] = (await site.admin.ok(200, "GET", "/systeminfo/volumes"))["storage"]
    assert 0 < volume["free"] < volume["total"]


async def test_there_is_no_certificate_to_hand_out(site: AccountsNode) -> None:
    assert (await site.anonymous("GET", "/systeminfo/getcert")).status == 404


async def test_security_hub_knows_no_weakness_before_anything_is_scanned(site: AccountsNode) -> None:
    found = await site.admin.ok(200, "GET", "/security/summary?with_dangerous_cve=true&with_dangerous_artifact=true")
    assert (found["total_vuls"], found["scanned_cnt"], found["dangerous_cves"], found["dangerous_artifacts"]) == (0, 0, [], [])
    assert await site.admin.ok(200, "GET", "/security/vul") == []


async def test_adapters_are_known_by_name_and_address(site: AccountsNode) -> None:
    names = await site.admin.ok(200, "GET", "/replication/adapters")
    infos = await site.admin.ok(200, "GET", "/replication/adapterinfos")
    assert {"harbor", "docker-registry"} < set(names)
    assert set(infos) < set(names)
    assert infos["google-gcr"]["credential_pattern"]["access_key_data"] == "_json_key"
