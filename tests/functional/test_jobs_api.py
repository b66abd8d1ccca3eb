"""Collections of garbage, the dashboard of jobs, the disk and the security hub at Harbor's paths."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.accounts import PASSWORD, AccountsNode, make_user, rows, site
from twinhull.jobs import garbage_collections as queries
from twinhull.jobs.executions import begin as begin_job
from twinhull.jobs.executions import tell_of
from twinhull.jobs.garbage_collections import Order, Outcome, Status
from twinhull.jobs.job import NewTask
from twinhull.metadata.executions import find_execution, unfinished_tasks
from twinhull.records.kinds import TASK

__all__ = ["site"]

ADMINS = [
    ("GET", "/system/gc"),
    ("GET", "/system/gc/{number}"),
    ("PUT", "/system/gc/{number}"),
    ("GET", "/system/gc/{number}/log"),
    ("GET", "/system/gc/schedule"),
    ("GET", "/system/purgeaudit/schedule"),
    ("GET", "/jobservice/pools"),
    ("GET", "/jobservice/pools/all/workers"),
    ("PUT", "/jobservice/jobs/gc-{number}"),
    ("GET", "/jobservice/jobs/gc-{number}/log"),
    ("GET", "/jobservice/queues"),
    ("PUT", "/jobservice/queues/GARBAGE_COLLECTION"),
    ("GET", "/security/summary"),
    ("GET", "/security/vul"),
    ("GET", "/systeminfo/volumes"),
    ("GET", "/replication/adapters"),
    ("GET", "/replication/adapterinfos"),
]


def order(site: AccountsNode, wanted: Order | None = None, *, behind: int = 0) -> int:
    with site.store.write() as transaction:
        return queries.order_collection(transaction, wanted or Order(), behind=behind)


def begin(site: AccountsNode) -> None:
    with site.store.write() as transaction:
        queries.begin_collection(transaction)


def end(site: AccountsNode, number: int, status: Status = Status.DONE) -> None:
    with site.store.write() as transaction:
        queries.end_collection(transaction, number, status, Outcome(blobs=3))


async def shown(site: AccountsNode, number: int) -> dict[str, Any]:
    found: dict[str, Any] = await site.admin.ok(200, "GET", f"/system/gc/{number}")
    return found


def telling(site: AccountsNode, vendor: str = "WEBHOOK") -> tuple[int, int]:
    """Begin an execution with a task, and return their ids."""
    with site.store.write() as transaction:
        number = begin_job(transaction, vendor_type=vendor, vendor_id=7, trigger="EVENT", tasks=[NewTask()])
        return number, unfinished_tasks(transaction.connection, site.store.node, number)[0].id


def is_to_stop(site: AccountsNode, execution: int) -> bool:
    with site.store.read() as connection:
        found = find_execution(connection, execution)
    assert found is not None
    return bool(found.fields.get("stop_asked"))


@pytest.mark.parametrize(("method", "path"), ADMINS)
async def test_only_administrators_see_to_the_node(site: AccountsNode, method: str, path: str) -> None:
    path = path.format(number=order(site))
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
        numbers = []
        for _ in range(3):
            numbers.append(order(site))
            end(site, numbers[-1])
        reply = await site.admin("GET", "/system/gc?page=1&page_size=2")
        assert [one["id"] for one in rows(reply)] == numbers[:0:-1]
        assert reply["x-total-count"] == "3"
        assert reply["link"] == '</api/v2.0/system/gc?page=2&page_size=2>; rel="next"'
        assert [one["id"] for one in await site.admin.ok(200, "GET", "/system/gc?page=2&page_size=2")] == numbers[:1]
        assert len(await site.admin.ok(200, "GET", "/system/gc?page_size=0")) == 3

    async def test_collection_under_way_is_asked_to_stop(self, site: AccountsNode) -> None:
        number = order(site)
        begin(site)
        await site.admin.ok(200, "PUT", f"/system/gc/{number}")
        with site.store.read() as connection:
            assert queries.is_stopping(connection, site.store.node, number)
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
        assert (await site.admin("GET", "/system/gc/x")).status == 422


class TestSchedules:
    async def test_collection_is_ordered_at_once(self, site: AccountsNode) -> None:
        body = {"schedule": {"type": "Manual"}, "parameters": {"delete_untagged": True, "dry_run": True}}
        number = await site.admin.create("/system/gc/schedule", body)
        # It has not begun: another just like it would find nothing to do.
        assert await site.admin.create("/system/gc/schedule", body) == number
        assert (await shown(site, number))["job_parameters"] == '{"delete_untagged":true,"dry_run":true,"time_window":2}'

    async def test_collections_wait_for_one_another_and_too_many_are_refused(self, site: AccountsNode) -> None:
        body = {"schedule": {"type": "Manual"}, "parameters": {"delete_untagged": True}}
        first = await site.admin.create("/system/gc/schedule", body)
        begin(site)
        second = await site.admin.create("/system/gc/schedule", body)
        assert second == first + 1
        end(site, first)
        begin(site)
        assert (await shown(site, second))["job_status"] == "Running"
        for _ in range(9):
            order(site, Order(dry_run=True), behind=20)
        await site.admin.create("/system/gc/schedule", body)
        body["parameters"] = {"delete_untagged": False}
        assert (await site.admin("POST", "/system/gc/schedule", body)).status == 409

    @pytest.mark.parametrize("request_", [("PUT", "/system/gc/schedule"), ("PUT", "/system/purgeaudit/schedule")])
    async def test_only_administrators_set_schedules(self, site: AccountsNode, request_: tuple[str, str]) -> None:
        await make_user(site, "alice")
        body = {"schedule": {"type": "None"}}
        assert (await site.anonymous(*request_, body)).status == 401
        assert (await site.user("alice", PASSWORD)(*request_, body)).status == 403

    @pytest.mark.parametrize(
        ("path", "parameters"),
        [
            ("/system/gc/schedule", {"delete_untagged": True}),
            ("/system/purgeaudit/schedule", {"audit_retention_hour": 24, "include_event_types": "delete_user"}),
        ],
    )
    async def test_schedule_is_set_changed_and_taken_away(
        self, site: AccountsNode, path: str, parameters: dict[str, Any]
    ) -> None:
        assert (await site.admin("GET", path)).body == b""
        weekly = {"schedule": {"type": "Weekly", "cron": "0 0 0 * * 0"}, "parameters": parameters}
        assert (await site.admin("POST", path, weekly)).status == 201
        found = await site.admin.ok(200, "GET", path)
        assert (found["job_kind"], found["schedule"]["type"]) == ("0 0 0 * * 0", "Weekly")
        assert json.loads(found["job_parameters"]) == parameters
        daily = {"schedule": {"type": "Daily", "cron": "0 0 0 * * *"}, "parameters": parameters}
        await site.admin.ok(200, "PUT", path, daily)
        changed = await site.admin.ok(200, "GET", path)
        assert (changed["id"], changed["schedule"]["cron"]) == (found["id"], "0 0 0 * * *")
        [listed] = await site.admin.ok(200, "GET", "/schedules")
        assert (listed["id"], listed["cron"]) == (found["id"], "0 0 0 * * *")
        await site.admin.ok(200, "PUT", path, {"schedule": {"type": "None"}, "parameters": parameters})
        assert (await site.admin("GET", path)).body == b""

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            ("/system/gc/schedule", {"schedule": {"type": "bogus"}}, 422),
            ("/system/gc/schedule", {}, 422),
            ("/system/gc/schedule", {"schedule": {"type": "Custom", "cron": "bad"}}, 400),
            ("/system/gc/schedule", {"schedule": {"type": "Manual"}, "parameters": {"workers": 11}}, 400),
            ("/system/gc/schedule", {"schedule": {"type": "Manual"}, "parameters": {"workers": "x"}}, 400),
            ("/system/gc/schedule", {"schedule": {"type": "Manual"}, "parameters": {"dry_run": "yes"}}, 400),
            ("/system/purgeaudit/schedule", {"schedule": {"type": "Manual"}}, 400),
            ("/system/purgeaudit/schedule", {"schedule": {"type": "Manual"}, "parameters": {"audit_retention_hour": 1}}, 400),
            (
                "/system/purgeaudit/schedule",
                {"schedule": {"type": "Manual"}, "parameters": {"audit_retention_hour": 240_001, "include_operations": ""}},
                400,
            ),
        ],
    )
    async def test_schedule_is_refused(self, site: AccountsNode, path: str, body: dict[str, Any], status: int) -> None:
        assert (await site.admin("POST", path, body)).status == status
        assert (await site.admin("PUT", path, body)).status == status

    async def test_schedules_are_never_paused(self, site: AccountsNode) -> None:
        for job_type in ("all", "ALL"):
            assert await site.admin.ok(200, "GET", f"/schedules/{job_type}/paused") == {"paused": False}
        assert (await site.admin("GET", "/schedules/gc/paused")).status == 400


async def test_purge_waits_for_the_agent_and_can_be_stopped(site: AccountsNode) -> None:
    parameters = {"audit_retention_hour": 24, "include_event_types": "delete_user", "dry_run": True}
    body = {"schedule": {"type": "Manual"}, "parameters": parameters}
    number = await site.admin.create("/system/purgeaudit/schedule", body)
    [found] = await site.admin.ok(200, "GET", "/system/purgeaudit")
    assert (found["id"], found["job_status"], json.loads(found["job_parameters"])) == (number, "Running", parameters)
    assert await site.admin.ok(200, "GET", f"/system/purgeaudit/{number}") == found
    assert b"purge was asked for" in (await site.admin("GET", f"/system/purgeaudit/{number}/log")).body
    await site.admin.ok(200, "PUT", f"/system/purgeaudit/{number}")
    assert is_to_stop(site, number)
    assert (await site.admin("GET", "/system/purgeaudit/99999")).status == 404


class TestAllowlist:
    async def test_list_is_put_in_place_of_the_one_before(self, site: AccountsNode) -> None:
        empty = await site.admin.ok(200, "GET", "/system/CVEAllowlist")
        assert (empty["items"], empty["expires_at"]) == ([], None)
        body = {"expires_at": 1999999999, "items": [{"cve_id": "CVE-2021-1"}, {"cve_id": "CVE-2021-2"}]}
        await site.admin.ok(200, "PUT", "/system/CVEAllowlist", body)
        found = await site.admin.ok(200, "GET", "/system/CVEAllowlist")
        assert {"expires_at": found["expires_at"], "items": found["items"]} == body
        await site.admin.ok(200, "PUT", "/system/CVEAllowlist", {"items": []})
        cleared = await site.admin.ok(200, "GET", "/system/CVEAllowlist")
        assert (cleared["items"], cleared["expires_at"], cleared["id"]) == ([], None, found["id"])

    @pytest.mark.parametrize(
        "body",
        [
            {"items": [{"cve_id": "CVE-1"}, {"cve_id": "CVE-1"}]},
            {"items": [{"cve_id": ""}]},
            {"items": "x"},
            {"expires_at": "tomorrow"},
        ],
    )
    async def test_list_is_refused(self, site: AccountsNode, body: dict[str, Any]) -> None:
        assert (await site.admin("PUT", "/system/CVEAllowlist", body)).status == 400

    async def test_everybody_who_is_logged_in_reads_it_and_administrators_write_it(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        await site.user("alice", PASSWORD).ok(200, "GET", "/system/CVEAllowlist")
        assert (await site.user("alice", PASSWORD)("PUT", "/system/CVEAllowlist", {"items": []})).status == 403
        assert (await site.anonymous("GET", "/system/CVEAllowlist")).status == 401


class TestJobs:
    async def test_waiting_collection_is_in_the_queue_and_a_running_one_with_the_worker(self, site: AccountsNode) -> None:
        number = order(site)
        [queue, *others] = await site.admin.ok(200, "GET", "/jobservice/queues")
        assert [(one["job_type"], one["count"]) for one in others] == [("WEBHOOK", 0), ("REPLICATION", 0)]
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
            assert queries.is_stopping(connection, site.store.node, number)

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
        execution, _ = telling(site)
        await site.admin.ok(200, "PUT", "/jobservice/jobs/all")
        assert (await shown(site, number))["job_status"] == "Stopped"
        assert is_to_stop(site, execution)

    async def test_tasks_wait_in_the_queue_of_their_kind_and_are_stopped_by_it(self, site: AccountsNode) -> None:
        first, _ = telling(site)
        second, _ = telling(site, "REPLICATION")
        queues = {one["job_type"]: one["count"] for one in await site.admin.ok(200, "GET", "/jobservice/queues")}
        assert queues == {"GARBAGE_COLLECTION": 0, "WEBHOOK": 1, "REPLICATION": 1}
        await site.admin.ok(200, "PUT", "/jobservice/queues/replication", {"action": "stop"})
        assert (is_to_stop(site, first), is_to_stop(site, second)) == (False, True)

    async def test_task_is_a_job_with_a_log_that_can_be_stopped(self, site: AccountsNode) -> None:
        execution, task = telling(site)
        with site.store.write() as transaction:
            tell_of(transaction, TASK, task, {"log": "receiver does not answer"})
        name = f"{site.store.node}-{task}"
        assert (await site.admin("GET", f"/jobservice/jobs/{name}/log")).body == b"receiver does not answer"
        await site.admin.ok(404, "GET", f"/jobservice/jobs/other-{task}/log")
        await site.admin.ok(200, "PUT", f"/jobservice/jobs/{name}")
        assert is_to_stop(site, execution)


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
