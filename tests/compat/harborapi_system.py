"""harborapi makes, reads, changes and deletes what is in no project: people, endpoints, scanners, schedules, settings."""

from __future__ import annotations

from typing import Any, cast

import pytest
from harborapi import models
from harborapi.exceptions import BadRequest, NotFound, StatusError
from pydantic import AnyUrl

from tests.compat.harborapi_desk import Desk, id_in
from tests.support.foreign import SECRET, USER, ForeignServer


async def user(desk: Desk) -> tuple[str, int]:
    """Make a user and change them; return name and number."""
    name = desk.name("alice")
    body = models.UserCreationReq(username=name, email=f"{name}@x.io", realname="Al", password="Passw0rd1", comment="")
    number = id_in(await desk.create_user(body))
    assert (await desk.get_user(number)).username == name
    assert (await desk.get_user_by_username(name)).user_id == number
    await desk.update_user(number, models.UserProfile(email=f"{name}@y.io", realname="Alice", comment="new"))
    assert [(one.realname, one.email) for one in await desk.get_users(query=f"username={name}")] == [("Alice", f"{name}@y.io")]
    assert [one.user_id for one in await desk.search_users_by_username(name)] == [number]
    await desk.set_user_admin(number, is_admin=True)
    assert (await desk.get_user(number)).sysadmin_flag
    await desk.set_user_admin(number, is_admin=False)
    await desk.set_user_password(number, "Passw0rd2")
    with pytest.raises(StatusError) as refused:
        await desk.set_user_cli_secret(number, "Passw0rd3")
    assert refused.value.status_code == 412
    return name, number


async def theirs(desk: Desk, user: str) -> None:
    """Ask what somebody is told about themselves."""
    assert (await desk.get_current_user()).username == user
    assert await desk.get_current_user_permissions(scope="/project/1", relative=True) is not None
    assert (await desk.get_statistics()).private_project_count == 0


async def group(desk: Desk) -> int:
    """Make a user group, change its name and return its number."""
    made = await desk.create_usergroup(models.UserGroup(group_name=desk.name("people"), group_type=3))
    number = id_in(made)
    await desk.update_usergroup(number, models.UserGroup(group_name=desk.name("group"), group_type=3))
    assert (await desk.get_usergroup(number)).group_name == desk.name("group")
    assert [one.id for one in await desk.get_usergroups(group_name=desk.name("group"))] == [number]
    assert [one.id for one in await desk.search_usergroups(desk.name("group"))] == [number]
    return number


async def foreign(desk: Desk, other: ForeignServer) -> None:
    """Registry endpoints and replication policies."""
    credential = models.RegistryCredential(type="basic", access_key=USER, access_secret=SECRET)
    endpoint = models.Registry(name=desk.name("other"), type="harbor", url=other.url, insecure=True, credential=credential)
    registry = id_in(await desk.create_registry(endpoint))
    assert (await desk.get_registry(registry)).status == "healthy"
    await desk.update_registry(registry, models.RegistryUpdate(description="there"))
    assert [one.description for one in await desk.get_registries(name=desk.name("other"))] == ["there"]
    await desk.check_registry_status(models.RegistryPing(id=registry))
    assert (await desk.get_registry_info(registry)).supported_triggers
    assert "harbor" in await desk.get_registry_adapters()
    assert "docker-hub" in ((await desk.get_registry_providers()).root or {})
    policy = models.ReplicationPolicy(
        name=desk.name("out"),
        dest_registry=models.Registry(id=registry),
        trigger=models.ReplicationTrigger(type="manual"),
        enabled=True,
    )
    number = id_in(await desk.create_replication_policy(policy))
    shown = await desk.get_replication_policy(number)
    await desk.update_replication_policy(number, shown.model_copy(update={"description": "all"}))
    assert [one.description for one in await desk.get_replication_policies(name=desk.name("out"))] == ["all"]
    execution = id_in(await desk.start_replication(number))
    assert (await desk.get_replication(execution)).policy_id == number
    assert [one.id for one in await desk.get_replications(policy_id=number)] == [execution]
    await desk.stop_replication(execution)
    assert isinstance(await desk.get_replication_tasks(execution), list)
    with pytest.raises(NotFound):
        await desk.get_replication_task_log(execution, 10**6)
    await desk.delete_replication_policy(number)
    await desk.delete_registry(registry)
    with pytest.raises(NotFound):
        await desk.get_registry(registry)


async def scanners(desk: Desk, other: ForeignServer, project: str) -> None:
    """Scanners, of the system and of a project."""
    asked = models.ScannerRegistrationReq(name=desk.name("looker"), url=AnyUrl(other.url), disabled=False)
    await desk.ping_scanner_adapter(models.ScannerRegistrationSettings(name="x", url=AnyUrl(other.url)))
    number = (await desk.create_scanner(asked)).rpartition("/")[2]
    assert (await desk.get_scanner(number)).name == desk.name("looker")
    await desk.update_scanner(number, asked.model_copy(update={"description": "looks"}))
    assert [one.description for one in await desk.get_scanners(query=f"name={desk.name('looker')}")] == ["looks"]
    # The client takes it for a number, and passes on what it is given.
    metadata = await desk.get_scanner_metadata(cast("int", number))
    assert metadata.scanner is not None
    await desk.set_default_scanner(number)
    await desk.set_project_scanner(project, number)
    assert (await desk.get_project_scanner(project)).uuid == number
    assert number in {one.uuid for one in await desk.get_project_scanner_candidates(project)}
    await desk.create_scan_all_schedule(_schedule(models.Type.daily, "0 0 0 * * *"))
    shown = (await desk.get_scan_all_schedule()).schedule
    assert shown is not None
    assert shown.type == models.Type.daily
    await desk.update_scan_all_schedule(_schedule(models.Type.none))
    assert (await desk.get_scan_all_metrics()).total is not None
    # Nothing is scanned, so nothing can be stopped.
    with pytest.raises(StatusError):
        await desk.stop_scan_all_job()
    await desk.delete_scanner(number)
    with pytest.raises(NotFound):
        await desk.get_scanner(number)


def _schedule(kind: models.Type, cron: str = "", **parameters: object) -> models.Schedule:
    return models.Schedule(schedule=models.ScheduleObj(type=kind, cron=cron), parameters=parameters)


async def schedules(desk: Desk) -> None:
    """Schedules of collecting garbage, and purges of the audit log."""
    daily, never = _schedule(models.Type.daily, "0 0 0 * * *", delete_untagged=True), _schedule(models.Type.none)
    await desk.create_gc_schedule(daily)
    shown = (await desk.get_gc_schedule()).schedule
    assert shown is not None
    assert shown.cron == "0 0 0 * * *"
    await desk.update_gc_schedule(never)
    kept: dict[str, Any] = {"audit_retention_hour": 24, "include_operations": "create"}
    await desk.create_audit_log_rotation_schedule(_schedule(models.Type.daily, "0 0 0 * * *", **kept))
    rotation = (await desk.get_audit_log_rotation_schedule()).schedule
    assert rotation is not None
    assert rotation.cron == "0 0 0 * * *"
    await desk.update_audit_log_rotation_schedule(_schedule(models.Type.none, **kept))
    purge = id_in(await desk.create_audit_log_rotation_schedule(_schedule(models.Type.manual, dry_run=True, **kept)))
    assert purge in {one.id for one in await desk.get_audit_log_rotation_history()}
    assert (await desk.get_audit_log_rotation(purge)).id == purge
    assert await desk.get_audit_log_rotation_log(purge)
    await desk.stop_audit_log_rotation(purge)


async def collections(desk: Desk) -> None:
    """Order a collection of garbage and look at it: at a node, since each shows its own."""
    number = id_in(await desk.create_gc_schedule(_schedule(models.Type.manual, dry_run=True)))
    assert number in {one.id for one in await desk.get_gc_jobs()}
    assert (await desk.get_gc_job(number)).job_status
    assert isinstance(await desk.get_gc_log(number, as_list=False), str)


async def old_names(desk: Desk) -> None:
    """The names that the client had for purges before they were called rotations."""
    kept: dict[str, Any] = {"audit_retention_hour": 24, "include_operations": "create"}
    await desk.create_purge_job_schedule(_schedule(models.Type.weekly, "0 0 0 * * 0", **kept))
    shown = (await desk.get_purge_job_schedule()).schedule
    assert shown is not None
    assert shown.type == models.Type.weekly
    await desk.update_purge_job_schedule(_schedule(models.Type.none, **kept))
    purges = await desk.get_purge_job_history()
    number = purges[0].id
    assert number is not None
    assert (await desk.get_purge_job(number)).id == number
    assert await desk.get_purge_job_log(number)
    await desk.stop_purge_job(number)


async def settings(desk: Desk, other: ForeignServer) -> None:
    """What holds for the whole system, and what it says of itself."""
    assert (await desk.get_system_info()).auth_mode == "db_auth"
    assert (await desk.health_check()).status == "healthy"
    assert "Pong" in await desk.ping()
    assert (await desk.get_system_volume_info()).storage
    assert (await desk.get_permissions()).system
    # The client hands out whatever it is answered for a file.
    assert b"NOT_FOUND" in (await desk.get_system_certificate()).content
    before = (await desk.get_config()).session_timeout
    assert before is not None
    await desk.update_config(models.Configurations(session_timeout=77))
    changed = (await desk.get_config()).session_timeout
    assert changed is not None
    assert changed.value == 77
    await desk.update_config(models.Configurations(session_timeout=before.value))
    items = [models.CVEAllowlistItem(cve_id="CVE-2021-1")]
    await desk.update_cve_allowlist(models.CVEAllowlist(items=items))
    assert (await desk.get_cve_allowlist()).items == items
    await desk.update_cve_allowlist(models.CVEAllowlist(items=[]))
    # People are known here: neither a directory nor a provider is asked, but both can be tried.
    answer = await desk.ping_ldap(models.LdapConf(ldap_url="ldap://127.0.0.1:1", ldap_base_dn="dc=x"))
    assert answer.success is False
    with pytest.raises(BadRequest):
        await desk.test_oidc(models.OIDCTestReq(url=f"{other.url}/no-provider", verify_cert=False))
    for asked in (desk.search_ldap_users("a"), desk.search_ldap_groups("a"), desk.import_ldap_users(["a"])):
        with pytest.raises(StatusError):
            await asked


async def exports(desk: Desk, number: int) -> None:
    """Exports of what scanners found."""
    asked = models.ScanDataExportRequest(job_name="all", projects=[number])
    job = await desk.export_scan_data(asked, "application/vnd.security.vulnerability.report; version=1.1")
    assert job.id is not None
    assert (await desk.get_scan_export(job.id)).id == job.id
    assert job.id in {one.id for one in (await desk.get_scan_exports()).items or []}
    assert b"errors" in (await desk.download_scan_export(job.id)).content
