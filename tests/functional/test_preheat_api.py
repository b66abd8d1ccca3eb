"""Peer-to-peer networks, preheat policies and exports at Harbor's paths: kept and checked, and not carried out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from tests.support.accounts import PASSWORD, AccountsNode, add_member, make_project, make_user, rows, site
from tests.support.foreign import ForeignServer, foreign_server
from twinhull.records.kinds import PREHEAT_INSTANCE, document_key

__all__ = ["site"]

SECRET: Final = "S3cret-of-the-network"
EXPORT_TYPE: Final = "application/vnd.security.vulnerability.report; version=1.1"
ADMINS: Final = [
    ("GET", "/p2p/preheat/providers"),
    ("GET", "/p2p/preheat/instances"),
    ("POST", "/p2p/preheat/instances"),
    ("POST", "/p2p/preheat/instances/ping"),
    ("GET", "/p2p/preheat/instances/net"),
    ("PUT", "/p2p/preheat/instances/net"),
    ("DELETE", "/p2p/preheat/instances/net"),
]


@pytest.fixture
async def other() -> AsyncIterator[ForeignServer]:
    """The other side."""
    async with foreign_server() as server:
        yield server


def instance(**changed: object) -> dict[str, Any]:
    body = {"name": "net", "vendor": "dragonfly", "endpoint": "http://127.0.0.1:1", "auth_mode": "NONE", "enabled": True}
    return {**body, **changed}


def policy(number: int, **changed: object) -> dict[str, Any]:
    filters = '[{"type":"repository","value":"**"},{"type":"tag","value":"v*"}]'
    return {
        "name": "warm",
        "provider_id": number,
        "filters": filters,
        "trigger": '{"type":"manual"}',
        "enabled": True,
        **changed,
    }


async def instance_id(site: AccountsNode, **changed: object) -> int:
    reply = await site.admin("POST", "/p2p/preheat/instances", instance(**changed))
    assert reply.status == 201, reply
    return int((await site.admin.ok(200, "GET", reply["location"]))["id"])


@pytest.mark.parametrize(("method", "path"), ADMINS)
async def test_only_administrators_have_to_do_with_instances(site: AccountsNode, method: str, path: str) -> None:
    await make_user(site, "alice")
    assert (await site.anonymous(method, path, {})).status == 401
    assert (await site.user("alice", PASSWORD)(method, path, {})).status == 403


class TestInstances:
    async def test_instance_is_made_read_changed_and_deleted(self, site: AccountsNode) -> None:
        number = await instance_id(site, description="d")
        shown = await site.admin.ok(200, "GET", "/p2p/preheat/instances/net")
        assert (shown["id"], shown["vendor"], shown["status"], shown["description"]) == (number, "dragonfly", "Unknown", "d")
        assert await site.admin.ok(200, "GET", "/p2p/preheat/instances?q=name%3D~ne") == [shown]
        await site.admin.ok(200, "PUT", "/p2p/preheat/instances/net", instance(vendor="kraken", enabled=False))
        changed = await site.admin.ok(200, "GET", "/p2p/preheat/instances/net")
        assert (changed["id"], changed["vendor"], changed["enabled"]) == (number, "kraken", False)
        await site.admin.ok(200, "DELETE", "/p2p/preheat/instances/net")
        missing = await site.admin.ok(404, "GET", "/p2p/preheat/instances/net")
        assert missing["errors"][0]["message"] == "instance net not found"
        assert {one["id"] for one in rows(await site.admin("GET", "/p2p/preheat/providers"))} == {"dragonfly", "kraken"}

    async def test_what_opens_an_instance_is_kept_sealed_and_never_shown(self, site: AccountsNode) -> None:
        await instance_id(site, auth_mode="BASIC", auth_info={"username": "u", "password": SECRET})
        key = document_key("", "net")
        before = site.store.record(PREHEAT_INSTANCE.name, key)
        assert before is not None
        assert SECRET.encode() not in before.record
        shown = await site.admin.ok(200, "GET", "/p2p/preheat/instances/net")
        assert shown["auth_info"] == {"username": "*****", "password": "*****"}
        # What is not sent again stays.
        await site.admin.ok(200, "PUT", "/p2p/preheat/instances/net", instance(auth_mode="BASIC"))
        assert site.store.record(PREHEAT_INSTANCE.name, key) == before
        # Nor is it what it is shown as, when a client sends back what it was shown.
        await site.admin.ok(200, "PUT", "/p2p/preheat/instances/net", {**instance(), **shown, "description": ""})
        assert site.store.record(PREHEAT_INSTANCE.name, key) == before

    @pytest.mark.parametrize(
        ("changed", "status"),
        [
            ({}, 409),
            ({"name": "x", "vendor": "bogus"}, 400),
            ({"name": "x", "endpoint": "ftp://x"}, 400),
            ({"name": "x", "auth_mode": "bogus"}, 400),
            ({"name": ""}, 400),
            ({"name": "a b"}, 400),
            ({"name": 5}, 422),
        ],
    )
    async def test_instance_is_refused(self, site: AccountsNode, changed: dict[str, Any], status: int) -> None:
        await instance_id(site)
        assert (await site.admin("POST", "/p2p/preheat/instances", instance(**changed))).status == status

    async def test_ping_asks_an_instance_whether_it_is_well(self, site: AccountsNode, other: ForeignServer) -> None:
        number = await instance_id(site, endpoint=other.url)
        for body in ({"id": number}, {"vendor": "dragonfly", "endpoint": other.url}):
            await site.admin.ok(200, "POST", "/p2p/preheat/instances/ping", body)
        assert (await site.admin("POST", "/p2p/preheat/instances/ping", instance())).status == 400
        assert (await site.admin("POST", "/p2p/preheat/instances/ping", {"id": 99999})).status == 404

    async def test_instance_that_a_policy_uses_is_not_switched_off_or_deleted(self, site: AccountsNode) -> None:
        number = await instance_id(site)
        await make_project(site.admin, "team")
        assert (await site.admin("POST", "/projects/team/preheat/policies", policy(number))).status == 201
        assert (await site.admin("DELETE", "/p2p/preheat/instances/net")).status == 412
        assert (await site.admin("PUT", "/p2p/preheat/instances/net", instance(enabled=False))).status == 412
        await site.admin.ok(200, "DELETE", "/projects/team/preheat/policies/warm")
        await site.admin.ok(200, "DELETE", "/p2p/preheat/instances/net")


class TestPolicies:
    async def test_policy_is_made_read_changed_and_deleted(self, site: AccountsNode) -> None:
        number = await instance_id(site)
        project = await make_project(site.admin, "team")
        assert (await site.admin("POST", "/projects/team/preheat/policies", policy(number))).status == 201
        shown = await site.admin.ok(200, "GET", "/projects/team/preheat/policies/warm")
        assert (shown["project_id"], shown["provider_name"], shown["filters"]) == (project, "net", policy(number)["filters"])
        assert await site.admin.ok(200, "GET", "/projects/team/preheat/policies") == [shown]
        scheduled = '{"type":"scheduled","trigger_setting":{"cron":"0 0 0 * * *"}}'
        await site.admin.ok(200, "PUT", "/projects/team/preheat/policies/warm", policy(number, name="hot", trigger=scheduled))
        changed = await site.admin.ok(200, "GET", "/projects/team/preheat/policies/hot")
        assert (changed["id"], changed["trigger"]) == (shown["id"], scheduled)
        [provider] = await site.admin.ok(200, "GET", "/projects/team/preheat/providers")
        assert (provider["id"], provider["enabled"]) == (number, True)
        await site.admin.ok(200, "DELETE", "/projects/team/preheat/policies/hot")
        assert (await site.admin("GET", "/projects/team/preheat/policies/hot")).status == 404

    @pytest.mark.parametrize(
        ("changed", "status"),
        [
            ({}, 409),
            ({"name": ""}, 400),
            ({"name": "x", "provider_id": 99999}, 404),
            ({"name": "x", "filters": "nonsense"}, 400),
            ({"name": "x", "filters": '[{"type":"bogus"}]'}, 400),
            ({"name": "x", "trigger": '{"type":"bogus"}'}, 400),
            ({"name": "x", "trigger": '{"type":"scheduled","trigger_setting":{"cron":"bad"}}'}, 400),
        ],
    )
    async def test_policy_is_refused(self, site: AccountsNode, changed: dict[str, Any], status: int) -> None:
        number = await instance_id(site)
        await make_project(site.admin, "team")
        await site.admin("POST", "/projects/team/preheat/policies", policy(number))
        assert (await site.admin("POST", "/projects/team/preheat/policies", policy(number, **changed))).status == status

    async def test_execution_is_written_down_as_not_carried_out(self, site: AccountsNode) -> None:
        number = await instance_id(site)
        await make_project(site.admin, "team")
        await site.admin("POST", "/projects/team/preheat/policies", policy(number))
        reply = await site.admin("POST", "/projects/team/preheat/policies/warm", policy(number))
        assert reply.status == 201
        made = int(reply["location"].rpartition("/")[2])
        shown = await site.admin.ok(200, "GET", f"/projects/team/preheat/policies/warm/executions/{made}")
        assert (shown["vendor_type"], shown["status"]) == ("P2P_PREHEAT", "Error")
        assert "does not carry them out" in shown["status_message"]
        assert await site.admin.ok(200, "GET", "/projects/team/preheat/policies/warm/executions") == [shown]
        assert await site.admin.ok(200, "GET", f"/projects/team/preheat/policies/warm/executions/{made}/tasks") == []
        log = f"/projects/team/preheat/policies/warm/executions/{made}"
        assert (await site.admin("GET", f"/projects/team/preheat/policies/warm/executions/{made}/tasks/9/logs")).status == 404
        stop = {"status": "Stopped"}
        await site.admin.ok(200, "PATCH", f"/projects/team/preheat/policies/warm/executions/{made}", stop)
        assert (await site.admin("PATCH", log, {"status": "Go"})).status == 400
        assert (await site.admin("GET", "/projects/team/preheat/policies/warm/executions/99999")).status == 404

    async def test_who_may_do_what_with_policies(self, site: AccountsNode) -> None:
        number = await instance_id(site)
        project = await make_project(site.admin, "team")
        for name, role in (("alice", 1), ("bob", 4)):
            await make_user(site, name)
            await add_member(site, project, name, role)
        alice, bob = site.user("alice", PASSWORD), site.user("bob", PASSWORD)
        assert (await alice("POST", "/projects/team/preheat/policies", policy(number))).status == 201
        assert (await bob("GET", "/projects/team/preheat/policies")).status == 403
        assert (await site.anonymous("GET", "/projects/team/preheat/policies")).status == 401


class TestExports:
    async def test_export_says_that_there_is_nothing_to_export(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        body = {"job_name": "j", "projects": [project]}
        made = (await site.admin.ok(200, "POST", "/export/cve", body, x_scan_data_type=EXPORT_TYPE))["id"]
        shown = await site.admin.ok(200, "GET", f"/export/cve/execution/{made}")
        assert (shown["user_name"], shown["status"], shown["file_present"]) == ("admin", "Error", False)
        assert await site.admin.ok(200, "GET", "/export/cve/executions") == {"items": [shown]}
        assert (await site.admin("GET", f"/export/cve/download/{made}")).status == 404

    async def test_export_is_its_makers_own(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        await make_user(site, "alice")
        body = {"projects": [project]}
        made = (await site.admin.ok(200, "POST", "/export/cve", body, x_scan_data_type=EXPORT_TYPE))["id"]
        alice = site.user("alice", PASSWORD)
        assert (await alice("GET", f"/export/cve/execution/{made}")).status == 403
        assert (await alice("GET", f"/export/cve/download/{made}")).status == 403
        assert await alice.ok(200, "GET", "/export/cve/executions") == {"items": []}
        assert (await alice("POST", "/export/cve", body, x_scan_data_type=EXPORT_TYPE)).status == 403
        assert (await site.anonymous("GET", "/export/cve/executions")).status == 401

    @pytest.mark.parametrize(
        ("body", "kind", "status"),
        [
            ({"projects": [1]}, "text/csv", 400),
            ({"projects": []}, EXPORT_TYPE, 400),
            ({"projects": [1, 2]}, EXPORT_TYPE, 400),
            ({"projects": [99999]}, EXPORT_TYPE, 404),
            ({"projects": [1], "tags": "a b"}, EXPORT_TYPE, 400),
        ],
    )
    async def test_export_is_refused(self, site: AccountsNode, body: dict[str, Any], kind: str, status: int) -> None:
        assert (await site.admin("POST", "/export/cve", body, x_scan_data_type=kind)).status == status
