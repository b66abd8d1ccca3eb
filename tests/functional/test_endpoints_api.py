"""Foreign registries, replication policies and scanners at Harbor's paths, with a server that plays the other side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from tests.support.accounts import PASSWORD, AccountsNode, add_member, make_project, make_user, push_image, rows, site
from tests.support.foreign import SECRET, USER, ForeignServer, foreign_server
from twinhull.records.kinds import REGISTRY, SCANNER, document_key

__all__ = ["site"]

NOWHERE: Final = "http://127.0.0.1:1"
ADMINS: Final = [
    ("GET", "/registries"),
    ("POST", "/registries"),
    ("POST", "/registries/ping"),
    ("GET", "/registries/1"),
    ("PUT", "/registries/1"),
    ("DELETE", "/registries/1"),
    ("GET", "/registries/0/info"),
    ("GET", "/registries/0/namespace"),
    ("GET", "/replication/policies"),
    ("POST", "/replication/policies"),
    ("GET", "/replication/policies/1"),
    ("PUT", "/replication/policies/1"),
    ("DELETE", "/replication/policies/1"),
    ("GET", "/replication/executions"),
    ("POST", "/replication/executions"),
    ("GET", "/replication/executions/1"),
    ("PUT", "/replication/executions/1"),
    ("GET", "/replication/executions/1/tasks"),
    ("GET", "/replication/executions/1/tasks/1/log"),
    ("GET", "/scanners"),
    ("POST", "/scanners"),
    ("POST", "/scanners/ping"),
    ("GET", "/scanners/x"),
    ("PUT", "/scanners/x"),
    ("PATCH", "/scanners/x"),
    ("DELETE", "/scanners/x"),
    ("GET", "/scanners/x/metadata"),
    ("GET", "/scans/all/metrics"),
    ("GET", "/scans/schedule/metrics"),
    ("GET", "/system/scanAll/schedule"),
    ("POST", "/system/scanAll/schedule"),
    ("PUT", "/system/scanAll/schedule"),
    ("POST", "/system/scanAll/stop"),
]


@pytest.fixture
async def other() -> AsyncIterator[ForeignServer]:
    """The other side."""
    async with foreign_server() as server:
        yield server


def registry(url: str, **changed: object) -> dict[str, Any]:
    credential = {"type": "basic", "access_key": USER, "access_secret": SECRET}
    return {"name": "other", "type": "harbor", "url": url, "insecure": True, "credential": credential, **changed}


def policy(number: int, **changed: object) -> dict[str, Any]:
    return {
        "name": "out",
        "description": "d",
        "dest_registry": {"id": number},
        "filters": [{"type": "name", "value": "team/**"}, {"type": "tag", "value": "v*", "decoration": "matches"}],
        "trigger": {"type": "manual", "trigger_settings": {"cron": ""}},
        "override": True,
        "enabled": True,
        **changed,
    }


@pytest.mark.parametrize(("method", "path"), ADMINS)
async def test_only_administrators_have_to_do_with_endpoints(site: AccountsNode, method: str, path: str) -> None:
    await make_user(site, "alice")
    assert (await site.anonymous(method, path, {})).status == 401
    assert (await site.user("alice", PASSWORD)(method, path, {})).status == 403


class TestRegistries:
    async def test_endpoint_is_made_read_changed_and_deleted(self, site: AccountsNode, other: ForeignServer) -> None:
        number = await site.admin.create("/registries", registry(other.url, description="d"))
        shown = await site.admin.ok(200, "GET", f"/registries/{number}")
        assert shown["credential"] == {"type": "basic", "access_key": USER, "access_secret": "*****"}
        assert (shown["url"], shown["status"], shown["description"]) == (other.url, "healthy", "d")
        assert await site.admin.ok(200, "GET", "/registries?name=OTH") == [shown]
        await site.admin.ok(200, "PUT", f"/registries/{number}", {"name": "another", "description": "new"})
        changed = await site.admin.ok(200, "GET", f"/registries/{number}")
        assert (changed["id"], changed["name"], changed["description"]) == (number, "another", "new")
        assert changed["credential"] == shown["credential"]
        await site.admin.ok(200, "DELETE", f"/registries/{number}")
        assert (await site.admin("GET", f"/registries/{number}")).status == 404

    async def test_secret_is_kept_sealed_and_never_shown(self, site: AccountsNode, other: ForeignServer) -> None:
        number = await site.admin.create("/registries", registry(other.url))
        record = site.store.record(REGISTRY.name, document_key("", "other"))
        assert record is not None
        assert SECRET.encode() not in record.record
        for path in ("/registries", f"/registries/{number}", f"/registries/{number}/info"):
            assert SECRET.encode() not in (await site.admin("GET", path)).body
        # What shows as stars and is sent back as stars stays what it is.
        await site.admin.ok(200, "PUT", f"/registries/{number}", {"access_secret": "*****"})
        await site.admin.ok(200, "POST", "/registries/ping", {"id": number})

    @pytest.mark.parametrize(
        ("changed", "status", "message"),
        [
            ({}, 409, "name 'other' is already used"),
            ({"name": "x", "url": "ftp://x"}, 400, "invalid scheme: ftp"),
            ({"name": "x", "url": NOWHERE}, 400, "the registry is unhealthy"),
            ({"name": "x", "type": "bogus"}, 400, "unsupported registry type 'bogus'"),
            ({"name": "x", "credential": {"access_key": USER, "access_secret": "bad"}}, 400, "the registry is unhealthy"),
            ({"name": "x" * 256}, 400, "a name has at most 255 characters, other texts 4096"),
        ],
    )
    async def test_endpoint_is_refused_in_harbors_words(
        self, site: AccountsNode, other: ForeignServer, changed: dict[str, Any], status: int, message: str
    ) -> None:
        await site.admin.create("/registries", registry(other.url))
        refused = await site.admin.ok(status, "POST", "/registries", {**registry(other.url), **changed})
        assert refused["errors"][0]["message"] == message

    async def test_ping_asks_what_is_kept_and_what_is_described(self, site: AccountsNode, other: ForeignServer) -> None:
        number = await site.admin.create("/registries", registry(other.url))
        described = {"type": "docker-registry", "url": f"{other.url}/tokens", "access_key": USER, "access_secret": SECRET}
        for body in ({"id": number}, {"id": 0}, described, {"type": "harbor", "url": other.url}):
            await site.admin.ok(200, "POST", "/registries/ping", body)
        assert (await site.admin("POST", "/registries/ping", {"id": 99999})).status == 404
        for bad in ({"id": number, "access_secret": "bad"}, {**described, "access_secret": "bad"}, {"type": "harbor"}, {}):
            assert (await site.admin("POST", "/registries/ping", bad)).status == 400
        assert other.asked

    async def test_endpoint_that_no_longer_answers_is_not_changed(self, site: AccountsNode, other: ForeignServer) -> None:
        number = await site.admin.create("/registries", registry(other.url))
        assert (await site.admin("PUT", f"/registries/{number}", {"url": NOWHERE})).status == 400
        assert (await site.admin.ok(200, "GET", f"/registries/{number}"))["url"] == other.url
        assert (await site.admin("PUT", "/registries/99999", {"name": "x"})).status == 404

    async def test_info_and_namespaces_are_told_of_this_registry_and_of_others(
        self, site: AccountsNode, other: ForeignServer
    ) -> None:
        number = await site.admin.create("/registries", registry(other.url))
        await site.admin.create("/labels", {"name": "gold", "scope": "g"})
        own = await site.admin.ok(200, "GET", "/registries/0/info")
        labels = next(one for one in own["supported_resource_filters"] if one["type"] == "label")
        assert (own["type"], labels["values"]) == ("harbor", ["gold"])
        assert own["supported_triggers"] == ["manual", "scheduled", "event_based"]
        assert (await site.admin.ok(200, "GET", f"/registries/{number}/info"))["supported_triggers"] == ["manual", "scheduled"]
        found = await site.admin.ok(200, "GET", f"/registries/{number}/namespace?name=lib")
        assert [one["name"] for one in found] == ["library", "liberty"]
        assert [one["name"] for one in await site.admin.ok(200, "GET", "/registries/0/namespace")] == ["library"]


class TestReplication:
    async def test_policy_is_made_read_changed_and_deleted(self, site: AccountsNode, other: ForeignServer) -> None:
        target = await site.admin.create("/registries", registry(other.url))
        number = await site.admin.create("/replication/policies", policy(target))
        shown = await site.admin.ok(200, "GET", f"/replication/policies/{number}")
        assert (shown["creator"], shown["dest_registry"]["id"], shown["src_registry"]["id"]) == ("admin", target, 0)
        assert shown["filters"] == policy(target)["filters"]
        assert shown["dest_registry"]["credential"]["access_secret"] == "*****"
        assert await site.admin.ok(200, "GET", "/replication/policies?name=UT") == [shown]
        body = policy(target, name="renamed", enabled=False, speed=-5)
        await site.admin.ok(200, "PUT", f"/replication/policies/{number}", body)
        changed = await site.admin.ok(200, "GET", f"/replication/policies/{number}")
        assert (changed["name"], changed["enabled"], changed["speed"]) == ("renamed", False, 0)
        used = await site.admin.ok(412, "DELETE", f"/registries/{target}")
        assert "1 replication policies use it as destination registry" in used["errors"][0]["message"]
        await site.admin.ok(200, "DELETE", f"/replication/policies/{number}")
        assert (await site.admin("GET", f"/replication/policies/{number}")).status == 404
        await site.admin.ok(200, "DELETE", f"/registries/{target}")

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"name": ""}, "name cannot be empty"),
            ({"dest_registry": None}, "one of them should be empty"),
            ({"src_registry": {"id": 1}}, "one of them should be empty"),
            ({"dest_registry": {"id": 99999}}, "registry 99999 not found"),
            ({"filters": [{"type": "bogus", "value": "x"}]}, "filters invalid filter type"),
            ({"filters": [{"type": "label", "value": "x"}]}, "label filter value isn't string slice"),
            ({"filters": [{"type": "tag", "value": ["x"]}]}, "tag filter value isn't string"),
            ({"filters": [{"type": "name", "value": "x", "decoration": "excludes"}]}, "invalid decoration"),
            ({"filters": [{"type": "resource", "value": "x"}]}, "invalid resource filter"),
            ({"trigger": {"type": "bogus"}}, "trigger invalid trigger type"),
            ({"trigger": {"type": "scheduled", "trigger_settings": {"cron": "bad"}}}, "invalid cron string"),
            ({"trigger": {"type": "event_based"}, "single_active_replication": True}, "not allowed for event_based"),
        ],
    )
    async def test_policy_is_refused_in_harbors_words(
        self, site: AccountsNode, other: ForeignServer, changed: dict[str, Any], message: str
    ) -> None:
        target = await site.admin.create("/registries", registry(other.url))
        refused = await site.admin.ok(400, "POST", "/replication/policies", policy(target, **changed))
        assert message in refused["errors"][0]["message"]

    async def test_name_that_is_taken_is_refused(self, site: AccountsNode, other: ForeignServer) -> None:
        target = await site.admin.create("/registries", registry(other.url))
        await site.admin.create("/replication/policies", policy(target))
        refused = await site.admin.ok(409, "POST", "/replication/policies", policy(target))
        assert refused["errors"][0]["message"] == "policy out already exists"
        second = await site.admin.create("/replication/policies", policy(target, name="second"))
        assert (await site.admin("PUT", f"/replication/policies/{second}", policy(target))).status == 409
        assert (await site.admin("PUT", "/replication/policies/99999", policy(target))).status == 404

    async def test_execution_waits_for_the_agent_and_holds_its_policy(self, site: AccountsNode, other: ForeignServer) -> None:
        target = await site.admin.create("/registries", registry(other.url))
        number = await site.admin.create("/replication/policies", policy(target))
        made = await site.admin.create("/replication/executions", {"policy_id": number})
        shown = await site.admin.ok(200, "GET", f"/replication/executions/{made}")
        assert (shown["policy_id"], shown["status"], shown["trigger"], shown["total"]) == (number, "InProgress", "manual", 0)
        assert await site.admin.ok(200, "GET", f"/replication/executions?policy_id={number}&status=InProgress") == [shown]
        assert await site.admin.ok(200, "GET", "/replication/executions?status=Failed") == []
        assert await site.admin.ok(200, "GET", "/replication/executions?trigger=event_based") == []
        assert await site.admin.ok(200, "GET", f"/replication/executions/{made}/tasks") == []
        assert (await site.admin("GET", f"/replication/executions/{made}/tasks/9/log")).status == 404
        assert (await site.admin("DELETE", f"/replication/policies/{number}")).status == 412
        assert (await site.admin("DELETE", f"/registries/{target}")).status == 412
        await site.admin.ok(200, "PUT", f"/replication/executions/{made}")
        assert (await site.admin("DELETE", f"/replication/policies/{number}")).status == 200
        assert (await site.admin("PUT", "/replication/executions/99999")).status == 404
        assert (await site.admin("POST", "/replication/executions", {"policy_id": 99999})).status == 404

    async def test_disabled_policy_is_not_started(self, site: AccountsNode, other: ForeignServer) -> None:
        target = await site.admin.create("/registries", registry(other.url))
        number = await site.admin.create("/replication/policies", policy(target, enabled=False))
        assert (await site.admin("POST", "/replication/executions", {"policy_id": number})).status == 412


class TestScanners:
    async def test_scanner_is_registered_chosen_and_deleted(self, site: AccountsNode, other: ForeignServer) -> None:
        project = await make_project(site.admin, "team")
        body = {"name": "looker", "url": other.url, "auth": "Bearer", "access_credential": "right"}
        reply = await site.admin("POST", "/scanners", body)
        assert reply.status == 201
        first = reply["location"].rpartition("/")[2]
        shown = await site.admin.ok(200, "GET", f"/scanners/{first}")
        assert (shown["name"], shown["is_default"], shown["access_credential"]) == ("looker", True, "")
        record = site.store.record(SCANNER.name, document_key("", "looker"))
        assert record is not None
        assert b"right" not in record.record
        assert (await site.admin.ok(200, "GET", f"/scanners/{first}/metadata"))["scanner"]["name"] == "Looker"
        assert (await site.admin.ok(200, "GET", f"/projects/{project}/scanner"))["uuid"] == first
        second = await self.register(site, f"{other.url}/second/?", "second")
        assert [one["uuid"] for one in rows(await site.admin("GET", f"/projects/{project}/scanner/candidates"))] == [
            first, second,
        ]  # fmt: skip
        await site.admin.ok(200, "PUT", f"/projects/{project}/scanner", {"uuid": second})
        assert (await site.admin.ok(200, "GET", f"/projects/{project}/scanner"))["uuid"] == second
        await site.admin.ok(200, "PATCH", f"/scanners/{second}", {"is_default": True})
        assert [one["is_default"] for one in rows(await site.admin("GET", "/scanners"))] == [False, True]
        await site.admin.ok(200, "PUT", f"/scanners/{second}", {"name": "renamed", "url": other.url + "/b", "disabled": True})
        assert [one["uuid"] for one in rows(await site.admin("GET", f"/projects/{project}/scanner/candidates"))] == [first]
        assert (await site.admin.ok(200, "DELETE", f"/scanners/{second}"))["name"] == "renamed"
        assert await site.admin.ok(200, "GET", f"/projects/{project}/scanner") == {}

    @staticmethod
    async def register(site: AccountsNode, url: str, name: str) -> str:
        reply = await site.admin("POST", "/scanners", {"name": name, "url": url})
        assert reply.status == 201, reply
        return str(reply["location"].rpartition("/")[2])

    async def test_credential_that_is_not_sent_again_stays(self, site: AccountsNode, other: ForeignServer) -> None:
        body = {"name": "looker", "url": other.url, "auth": "Bearer", "access_credential": "right"}
        identifier = (await site.admin("POST", "/scanners", body))["location"].rpartition("/")[2]
        await site.admin.ok(200, "PUT", f"/scanners/{identifier}", {**body, "access_credential": "", "description": "d"})
        await site.admin.ok(200, "GET", f"/scanners/{identifier}/metadata")
        await site.admin.ok(200, "PUT", f"/scanners/{identifier}", {**body, "access_credential": "wrong"})
        assert (await site.admin("GET", f"/scanners/{identifier}/metadata")).status == 400

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({}, 400),
            ({"name": "x", "url": NOWHERE}, 400),
            ({"name": "x", "url": "ftp://x"}, 400),
            ({"name": "x", "url": NOWHERE, "auth": "Magic"}, 400),
        ],
    )
    async def test_scanner_is_refused(self, site: AccountsNode, body: dict[str, Any], status: int) -> None:
        assert (await site.admin("POST", "/scanners", body)).status == status
        assert (await site.admin("POST", "/scanners/ping", body)).status == status

    async def test_ping_asks_a_scanner_that_is_described(self, site: AccountsNode, other: ForeignServer) -> None:
        await site.admin.ok(200, "POST", "/scanners/ping", {"name": "x", "url": other.url})
        bad = {"name": "x", "url": other.url, "auth": "Bearer", "access_credential": "wrong"}
        assert (await site.admin("POST", "/scanners/ping", bad)).status == 400

    @pytest.mark.parametrize("identifier", ["", "a b", "x" * 65, "\0"])
    async def test_choice_of_what_is_no_identifier_is_refused(self, site: AccountsNode, identifier: str) -> None:
        await make_project(site.admin, "team")
        assert (await site.admin("PUT", "/projects/team/scanner", {"uuid": identifier})).status == 400

    async def test_who_may_choose_a_projects_scanner(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        await make_user(site, "alice")
        await add_member(site, project, "alice", 4)
        alice = site.user("alice", PASSWORD)
        assert await alice.ok(200, "GET", "/projects/team/scanner") == {}
        assert (await alice("PUT", "/projects/team/scanner", {"uuid": "x"})).status == 403
        assert (await alice("GET", "/projects/team/scanner/candidates")).status == 403
        await make_project(site.admin, "open", public=True)
        for name in ("team", "open"):
            assert (await site.anonymous("GET", f"/projects/{name}/scanner")).status == 401


class TestScans:
    async def test_nothing_is_scanned_without_a_scanner(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        await push_image(site.admin, "team/nested/app")
        name, tag = "nested%2Fapp", "v1"
        refused = await site.admin.ok(412, "POST", f"/projects/team/repositories/{name}/artifacts/{tag}/scan")
        assert refused["errors"][0]["message"] == f"no available scanner for project: {project}"
        missing = await site.admin.ok(404, "POST", f"/projects/team/repositories/{name}/artifacts/nosuch/scan")
        assert missing["errors"][0]["message"] == "artifact team/nested/app:nosuch not found"
        body = {"scan_type": "vulnerability"}
        assert (await site.admin("POST", f"/projects/team/repositories/{name}/artifacts/{tag}/scan/stop", body)).status == 202
        report = "nosuch"
        log = await site.admin.ok(404, "GET", f"/projects/team/repositories/{name}/artifacts/{tag}/scan/{report}/log")
        assert log["errors"][0]["message"] == "report with uuid nosuch does not exist"
        found = await site.admin.ok(404, "GET", f"/projects/team/repositories/{name}/artifacts/{tag}/additions/vulnerabilities")
        assert found["errors"][0]["message"] == f"no scanner registration configured for project: {project}"
        for path in ("/scans/all/metrics", "/scans/schedule/metrics", "/system/scanAll/schedule"):
            assert (await site.admin("GET", path)).status == 412

    async def test_schedule_that_is_none_is_refused_before_it_is_said_that_nothing_can_scan(self, site: AccountsNode) -> None:
        for method in ("POST", "PUT"):
            bogus = await site.admin(method, "/system/scanAll/schedule", {"schedule": {"type": "bogus"}})
            assert bogus.status == 422
            daily = {"schedule": {"type": "Daily", "cron": "0 0 0 * * *"}}
            assert (await site.admin(method, "/system/scanAll/schedule", daily)).status == 412

    async def test_schedule_of_all_scans_is_kept_once_there_is_a_scanner(
        self, site: AccountsNode, other: ForeignServer
    ) -> None:
        await site.admin("POST", "/scanners", {"name": "looker", "url": other.url})
        assert await site.admin.ok(200, "GET", "/system/scanAll/schedule") == {}
        daily = {"schedule": {"type": "Daily", "cron": "0 0 0 * * *"}}
        assert (await site.admin("POST", "/system/scanAll/schedule", daily)).status == 201
        assert (await site.admin("POST", "/system/scanAll/schedule", daily)).status == 412
        assert (await site.admin.ok(200, "GET", "/system/scanAll/schedule"))["schedule"]["cron"] == "0 0 0 * * *"
        await site.admin.ok(200, "PUT", "/system/scanAll/schedule", {"schedule": {"type": "None"}})
        assert await site.admin.ok(200, "GET", "/system/scanAll/schedule") == {}
        manual = {"schedule": {"type": "Manual"}}
        assert (await site.admin("POST", "/system/scanAll/schedule", manual)).status == 412
        assert (await site.admin("PUT", "/system/scanAll/schedule", manual)).status == 400
        assert (await site.admin.ok(200, "GET", "/scans/all/metrics"))["ongoing"] is False
        assert (await site.admin("POST", "/system/scanAll/stop")).status == 400

    async def test_who_may_scan(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        await push_image(site.admin, "team/app")
        await make_user(site, "alice")
        await add_member(site, project, "alice", 2)
        alice = site.user("alice", PASSWORD)
        assert (await alice("POST", "/projects/team/repositories/app/artifacts/v1/scan")).status == 403
        assert (await site.anonymous("POST", "/projects/team/repositories/app/artifacts/v1/scan")).status == 401
