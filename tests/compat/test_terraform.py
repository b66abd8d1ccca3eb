"""What Harbor's Terraform provider does: each resource is made, read, changed, read, deleted and read, at every way in.

What is read comes from the other master each time, so a plan that is made there finds nothing to change.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from tests.compat import wire
from tests.compat.terraform import GIGABYTE, ZERO_TIME, Ground, Json, Resource, assert_shown
from tests.compat.terraform_plans import RESOURCES
from tests.compat.terraform_rules import RETENTION
from tests.support.foreign import foreign_server
from tests.support.twins import Registry, Twins

API = "/api/v2.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Writes at one way in and reads at the other master."""

    writes: Registry
    reads: Registry

    def write(self, method: str, path: str, body: object, *, expect: int) -> wire.Answer:
        """Send a request that changes something, and return its answer."""
        return wire.call(self.writes, method, API + path, body=body, expect=expect)

    def create(self, path: str, body: object) -> str:
        """Make something and return where it is, without the API's root, as the provider cuts it off."""
        location = self.write("POST", path, body, expect=201).headers["Location"]
        return str(location).replace("/api", "").replace("/v2.0", "")

    def read(self, path: str, *, expect: int = 200) -> Any:  # noqa: ANN401 - whatever JSON is
        """Return what the other master shows; None where it has nothing to show."""
        answer = wire.call(self.reads, "GET", API + path, expect=expect)
        return answer.json() if answer.body else None


@pytest.fixture(scope="module")
def provider(way: Registry, twins: Twins) -> Provider:
    """A provider that was given this way in."""
    return Provider(writes=way, reads=twins.other(way))


@pytest.fixture(scope="module")
def ground(provider: Provider) -> Iterator[Ground]:
    """A project, a user, a group and a registry endpoint, which is the other master; all taken away afterwards."""
    token = secrets.token_hex(4)
    url = f"http://{provider.reads.address}"
    credential = {"access_key": provider.reads.user, "access_secret": provider.reads.password, "type": "basic"}
    endpoint = {"name": f"end-{token}", "url": url, "insecure": True, "type": "harbor", "credential": credential}
    user = {"username": f"user-{token}", "password": "Terraform-1", "email": f"{token}@example.com", "realname": "T"}
    made = [
        provider.create("/projects", {"project_name": f"ground-{token}"}),
        provider.create("/users", user),
        provider.create("/usergroups", {"group_name": f"group-{token}", "group_type": 3}),
        provider.create("/registries", endpoint),
    ]
    yield Ground(
        token=token,
        project_id=number_in(made[0]),
        project=f"ground-{token}",
        user=f"user-{token}",
        group=f"group-{token}",
        registry_id=number_in(made[3]),
        registry_url=url,
    )
    for path in reversed(made):
        provider.write("DELETE", path, None, expect=200)


def number_in(path: str) -> int:
    return int(path.rpartition("/")[2])


def read_resource(provider: Provider, resource: Resource, path: str) -> Any:  # noqa: ANN401 - whatever JSON is
    """Return what the other master shows of it, or None when it is not there."""
    if not resource.is_listed:
        return provider.read(path)
    listed = provider.read(f"{path.rpartition('/')[0]}?page=1&page_size=15")
    found = [one for one in listed if one["id"] == number_in(path)]
    return found[0] if found else None


@pytest.mark.parametrize("kind", RESOURCES)
def test_resource_is_what_was_planned_from_its_making_to_its_end(provider: Provider, ground: Ground, kind: str) -> None:
    resource = RESOURCES[kind]
    body = resource.body(ground)
    path = provider.create(resource.path(ground), body)
    shown = read_resource(provider, resource, path)
    assert_shown(resource.compared(body), shown)
    times_are_go_s(shown)
    changes = resource.changes(ground)
    body = {**body, **changes} if resource.is_changed_whole else changes
    if changes:
        # A robot keeps the whole name that it was given; others are sent their own.
        sent = {**body, "name": shown["name"]} if kind.startswith("harbor_robot") else body
        provider.write("PUT", path, sent, expect=200)
        assert_shown(resource.compared(body), read_resource(provider, resource, path))
    provider.write("DELETE", path, None, expect=200)
    if resource.is_listed:
        assert read_resource(provider, resource, path) is None
    else:
        provider.read(path, expect=404)


def times_are_go_s(shown: Json) -> None:
    """Fail if a time is there that Go could not read: it takes RFC 3339 and nothing else, an empty text not either."""
    for name, value in shown.items():
        if name.endswith("_time"):
            assert datetime.fromisoformat(value).tzinfo is not None, (name, value)


def test_user_becomes_administrator_and_gets_another_password(provider: Provider, ground: Ground) -> None:
    body = RESOURCES["harbor_user"].body(ground)
    path = provider.create("/users", {**body, "sysadmin_flag": True})
    try:
        # Whoever is made is no administrator yet, whatever the body says: the provider puts that right when it next applies.
        for is_admin, password in ((True, "Terraform-2"), (False, "Terraform-3")):
            sent = {**body, "password": password, "new_password": password} | ({"sysadmin_flag": True} if is_admin else {})
            for part in ("", "/sysadmin", "/password"):
                provider.write("PUT", path + part, sent, expect=200)
            assert provider.read(path)["sysadmin_flag"] is is_admin
            them = provider.reads.seen_by(body["username"], password)
            status = wire.ask(them, "GET", f"{API}/configurations").status
            assert status == (200 if is_admin else 403)
    finally:
        provider.write("DELETE", path, None, expect=200)


@pytest.mark.parametrize("level", ["project", "system"])
def test_robot_has_the_secret_that_was_planned(provider: Provider, ground: Ground, level: str) -> None:
    body = RESOURCES[f"harbor_robot_account {level}"].body(ground)
    made = provider.write("POST", "/robots", body, expect=201).json()
    assert isinstance(made, dict)
    path = f"/robots/{made['id']}"
    name = provider.read(path)["name"]
    prefix = provider.read("/configurations")["robot_name_prefix"]["value"]
    # The name in the plan is what is behind the prefix, and behind the project's name.
    assert name == prefix + (f"{ground.project}+" if level == "project" else "") + body["name"]
    provider.write("PATCH", path, {"secret": "Planned-Secret-1"}, expect=200)
    robot = provider.reads.seen_by(name, "Planned-Secret-1")
    assert wire.ask(robot, "GET", "/v2/").status == 200
    provider.write("DELETE", path, None, expect=200)
    assert wire.ask(robot, "GET", "/v2/").status == 401


def test_project_s_quota_is_found_page_by_page_and_changed(provider: Provider, ground: Ground) -> None:
    assert provider.read("/configurations")["quota_per_project_enable"]["value"] is True
    found, page = [], 1
    while listed := provider.read(f"/quotas/?page={page}&page_size=100"):
        found += [one for one in listed if one["ref"]["id"] == ground.project_id]
        page += 1
    (quota,) = found
    times_are_go_s(quota)
    for storage in (2 * GIGABYTE, -1):
        provider.write("PUT", f"/quotas/{quota['id']}", {"hard": {"storage": storage}}, expect=200)
        assert provider.read(f"/quotas/{quota['id']}")["hard"] == {"storage": storage}


def test_retention_is_emptied_and_taken_up_again(provider: Provider, ground: Ground) -> None:
    body = RETENTION.body(ground)
    path = provider.create("/retentions", body)
    assert_shown(RETENTION.compared(body), provider.read(path))
    body |= RETENTION.changes(ground)
    provider.write("PUT", path, body, expect=200)
    assert_shown(RETENTION.compared(body), provider.read(path))
    # The provider never deletes one: it leaves it without rules.
    provider.write("PUT", path, {**body, "rules": [], "id": number_in(path)}, expect=200)
    assert provider.read(path)["rules"] == []
    # And when it is to make one where there is one, it asks the project for it.
    assert wire.ask(provider.writes, "POST", f"{API}/retentions", body=body).status >= 400
    number = provider.read(ground.project_path)["metadata"]["retention_id"]
    assert f"/retentions/{number}" == path
    provider.write("PUT", path, body, expect=200)
    assert_shown(RETENTION.compared(body), provider.read(path))


SCHEDULES: Mapping[str, Json] = {
    "/system/gc/schedule": {"delete_untagged": True, "workers": 2},
    "/system/purgeaudit/schedule": {"audit_retention_hour": 48, "include_operations": "create,delete,pull"},
}


@pytest.mark.parametrize("path", SCHEDULES)
def test_schedule_is_set_changed_and_taken_away(provider: Provider, path: str) -> None:
    check_schedule(provider, path, SCHEDULES[path])


async def test_scans_of_everything_are_scheduled_with_the_scanner_that_was_planned(provider: Provider) -> None:
    async with foreign_server() as scanner:
        await asyncio.to_thread(check_scans, provider, scanner.url)


def check_scans(provider: Provider, scanner: str) -> None:
    """Do what the provider calls interrogation services: a schedule, and a default scanner, which it looks for by its name."""
    name = f"looker-{secrets.token_hex(4)}"
    path = provider.create("/scanners", {"name": name, "url": scanner})
    try:
        (found,) = [one for one in provider.read("/scanners") if one["name"].lower() == name]
        times_are_go_s(found)
        provider.write("PATCH", f"/scanners/{found['uuid']}", {"is_default": True}, expect=200)
        assert provider.read(path)["is_default"] is True
        check_schedule(provider, "/system/scanAll/schedule", {})
    finally:
        provider.write("DELETE", path, None, expect=200)
    provider.read(path, expect=404)


def check_schedule(provider: Provider, path: str, parameters: Json) -> None:
    """Set a schedule, change it, and take it away."""
    try:
        for kind, cron in (("Daily", "0 0 0 * * *"), ("Custom", "0 0 3 * * 1"), ("Weekly", "0 0 0 * * 0")):
            set_schedule(provider, path, {"type": kind, "cron": cron}, parameters)
            shown = provider.read(path)
            assert (shown["schedule"]["type"], shown["schedule"]["cron"]) == (kind, cron)
            times_are_go_s(shown)
            kept = json.loads(shown["job_parameters"]) if "job_parameters" in shown else {}
            assert_shown(parameters, kept)
    finally:
        set_schedule(provider, path, {"type": "None"}, {} if path == "/system/gc/schedule" else parameters)
    left = provider.read(path)
    assert not left or left["schedule"]["type"] == "None"


def set_schedule(provider: Provider, path: str, when: Json, parameters: Json) -> None:
    """Do as the provider does: PUT where something is shown, POST where nothing is."""
    body = {"schedule": when, "creation_time": ZERO_TIME, "update_time": ZERO_TIME, "parameters": parameters}
    there = wire.call(provider.writes, "GET", API + path, expect=200).body
    provider.write("PUT" if there else "POST", path, body, expect=200 if there else 201)


SETTINGS: Mapping[str, Json] = {
    "harbor_config_system": {
        "project_creation_restriction": "adminonly",
        "read_only": False,
        "robot_token_duration": 60,
        "token_expiration": 45,
        "session_timeout": 90,
        "quota_per_project_enable": True,
        "robot_name_prefix": "bot$",
        "storage_per_project": 100 * GIGABYTE,
        "scanner_skip_update_pulltime": True,
        "skip_audit_log_database": False,
        "banner_message": '{"closable":true,"message":"soon","type":"warning","fromDate":"01/02/2026","toDate":"02/02/2026"}',
        "notification_enable": False,
        "disabled_audit_log_event_types": "pull_artifact",
    },
    "harbor_config_email": {
        "email_host": "mail.example.com",
        "email_port": 2525,
        "email_username": "sender",
        "email_from": "registry <registry@example.com>",
        "email_ssl": True,
        "email_insecure": True,
    },
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_setting_is_what_was_planned(provider: Provider, kind: str) -> None:
    before = {name: item["value"] for name, item in provider.read("/configurations").items() if name in SETTINGS[kind]}
    try:
        provider.write("PUT", "/configurations", SETTINGS[kind], expect=200)
        shown = provider.read("/configurations")
        assert_shown(SETTINGS[kind], {name: item["value"] for name, item in shown.items()})
        assert all(shown[name]["editable"] for name in SETTINGS[kind])
    finally:
        provider.write("PUT", "/configurations", before, expect=200)
    assert_shown(before, {name: item["value"] for name, item in provider.read("/configurations").items()})


def test_system_s_cve_allowlist_is_set_changed_and_emptied(provider: Provider) -> None:
    path = "/system/CVEAllowlist"
    for items, expires_at in (([{"cve_id": "CVE-2024-1"}], 4_102_444_800), ([{"cve_id": "CVE-2024-2"}, {"cve_id": "X"}], 0)):
        sent = {"items": items} | ({"expires_at": expires_at} if expires_at else {})
        provider.write("PUT", path, sent, expect=200)
        shown = provider.read(path)
        assert [one["cve_id"] for one in shown["items"]] == [one["cve_id"] for one in items]
        assert (shown.get("expires_at") or 0) == expires_at
    # Go leaves an empty list out.
    provider.write("PUT", path, {}, expect=200)
    assert provider.read(path)["items"] == []
