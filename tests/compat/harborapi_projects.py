"""harborapi makes, reads, changes and deletes what is in a project: its content, its people, its rules."""

from __future__ import annotations

import pytest
from harborapi import models
from harborapi.exceptions import NotFound, StatusError

from tests.compat.harborapi_desk import Desk, id_in


async def project(desk: Desk) -> int:
    """Make a project, change it, and return its number."""
    name = desk.name("team")
    assert not await desk.project_exists(name)
    await desk.create_project(models.ProjectReq(project_name=name, metadata=models.ProjectMetadata(public="false")))
    assert await desk.project_exists(name)
    made = await desk.get_project(name)
    assert made.metadata is not None
    assert made.metadata.public == "false"
    await desk.update_project(name, models.ProjectReq(metadata=models.ProjectMetadata(public="true")))
    assert [(one.name, one.metadata and one.metadata.public) for one in await desk.get_projects(name=name)] == [(name, "true")]
    assert (await desk.get_project_deletable(name)).deletable
    number = made.project_id
    assert number is not None
    await desk.set_project_metadata(number, models.ProjectMetadata(auto_scan="true"))
    await desk.update_project_metadata_entry(name, "auto_scan", {"auto_scan": "false"})
    assert await desk.get_project_metadata_entry(name, "auto_scan") == {"auto_scan": "false"}
    await desk.delete_project_metadata_entry(name, "auto_scan")
    assert (await desk.get_project_metadata(name)).auto_scan is None
    summary = await desk.get_project_summary(name)
    assert (summary.repo_count, summary.project_admin_count) == (0, 1)
    (quota,) = await desk.get_quotas(reference="project", reference_id=str(number))
    assert quota.id is not None
    await desk.update_quota(quota.id, models.QuotaUpdateReq(hard=models.ResourceList({"storage": 10**9})))
    assert (await desk.get_quota(quota.id)).hard == models.ResourceList({"storage": 10**9})
    return number


async def content(desk: Desk, digest: str) -> None:
    """Go through what was pushed as app:v1: an image."""
    name = desk.name("team")
    where = (name, "a/app")
    assert [one.name for one in await desk.get_repositories(name)] == [f"{name}/a/app"]
    await desk.update_repository(*where, models.Repository(description="an app"))
    assert (await desk.get_repository(*where)).description == "an app"
    assert [one.digest for one in await desk.get_artifacts(*where, with_tag=True, with_label=True)] == [digest]
    assert [one.digest for one in await desk.get_project_artifacts(name, with_tag=True)] == [digest]
    await desk.create_artifact_tag(*where, digest, models.Tag(name="v2"))
    assert {tag.name for tag in await desk.get_artifact_tags(*where, "v1")} == {"v1", "v2"}
    await desk.delete_artifact_tag(*where, "v1", "v2")
    label = id_in(await desk.create_label(models.Label(name=desk.name("gold"), scope="g", color="#FF0000")))
    await desk.update_label(label, models.Label(name=desk.name("golden"), scope="g"))
    assert [one.name for one in await desk.get_labels(scope="g", name=desk.name("golden"))] == [desk.name("golden")]
    await desk.add_artifact_label(*where, "v1", models.Label(id=label))
    labelled = await desk.get_artifact(*where, "v1", with_label=True)
    assert [one.name for one in labelled.labels or []] == [desk.name("golden")]
    await desk.delete_artifact_label(*where, "v1", label)
    await desk.delete_label(label)
    with pytest.raises(NotFound):
        await desk.get_label(label)
    assert await desk.get_artifact_accessories(*where, "v1") == []
    assert len(await desk.get_artifact_build_history(*where, "v1")) > 0
    assert labelled.icon is not None
    assert (await desk.get_icon(labelled.icon)).content
    await desk.copy_artifact(name, "copy", f"{name}/a/app:v1")
    assert (await desk.get_artifact(name, "copy", digest)).digest == digest
    await desk.delete_artifact(name, "copy", digest)
    await desk.delete_repository(name, "copy")
    found = await desk.search(name)
    assert [one.repository_name for one in found.repository or []] == [f"{name}/a/app"]
    # There is no scanner: nothing to be had of one.
    for asked in (
        desk.scan_artifact(*where, "v1"),
        desk.stop_artifact_scan(*where, "v1"),
        desk.get_artifact_scan_report_log(*where, "v1", "1-2-3"),
    ):
        with pytest.raises(StatusError):
            await asked
    with pytest.raises(NotFound):
        await desk.get_artifact_vulnerability_reports(*where, "v1")
    with pytest.raises(NotFound):
        await desk.get_artifact_vulnerabilities(*where, "v1")
    await desk.delete_repository(*where)


async def members(desk: Desk, user: str, group: int) -> None:
    """Make a user and a group members, change and remove them."""
    name = desk.name("team")
    member = id_in(await desk.add_project_member_user(name, user, role_id=2))
    await desk.update_project_member_role(name, member, 3)
    assert (await desk.get_project_member(name, member)).role_name == "guest"
    grouped = id_in(await desk.add_project_member_group(name, group, role_id=1))
    roles = {one.entity_name: one.role_name for one in await desk.get_project_members(name)}
    assert roles == {"admin": "projectAdmin", user: "guest", desk.name("group"): "projectAdmin"}
    for number in (member, grouped):
        await desk.remove_project_member(name, number)
    assert [one.entity_name for one in await desk.get_project_members(name)] == ["admin"]


async def robots(desk: Desk) -> None:
    """Robots of both generations."""
    name = desk.name("team")
    access = [models.Access(resource="repository", action="pull")]
    permissions = [models.RobotPermission(kind="project", namespace=name, access=access)]
    made = await desk.create_robot(models.RobotCreate(name="ci", level="project", duration=7, permissions=permissions))
    assert made.id is not None
    assert made.secret
    robot = await desk.get_robot(made.id)
    assert (robot.name, robot.disable) == (f"robot${name}+ci", False)
    await desk.update_robot(made.id, robot.model_copy(update={"disable": True}))
    assert (await desk.get_robot(made.id)).disable
    assert (await desk.refresh_robot_secret(made.id, "")).secret not in (None, "", made.secret)
    old = await desk.create_robot_v1(name, models.RobotCreateV1(name="old", access=_robot_v1_access(name)))
    assert old.id is not None
    assert {one.name for one in await desk.get_robots_v1(name)} == {f"robot${name}+ci", f"robot${name}+old"}
    shown = await desk.get_robot_v1(name, old.id)
    await desk.update_robot_v1(name, old.id, shown.model_copy(update={"disable": True}))
    assert (await desk.get_robot_v1(name, old.id)).disable
    await desk.delete_robot_v1(name, old.id)
    await desk.delete_robot(made.id)
    assert made.id not in {one.id for one in await desk.get_robots()}


def _robot_v1_access(name: str) -> list[models.Access]:
    return [models.Access(resource=f"/project/{name}/repository", action="pull")]


async def rules(desk: Desk, number: int) -> None:
    """Immutability, retention and webhooks."""
    name = desk.name("team")
    tags = [models.ImmutableSelector(kind="doublestar", decoration="matches", pattern="v*")]
    scope = {"repository": [models.ImmutableSelector(kind="doublestar", decoration="repoMatches", pattern="**")]}
    rule = models.ImmutableRule(
        action="immutable", template="immutable_template", tag_selectors=tags, scope_selectors=scope, disabled=False
    )
    made = id_in(await desk.create_project_immutable_tag_rule(name, rule))
    changed = rule.model_copy(update={"id": made, "tag_selectors": [tags[0].model_copy(update={"pattern": "w*"})]})
    await desk.update_project_immutable_tag_rule(name, made, changed)
    (shown,) = await desk.get_project_immutable_tag_rules(name)
    assert [one.pattern for one in shown.tag_selectors or []] == ["w*"]
    await desk.enable_project_immutable_tagrule(name, made, enabled=False)
    (shown,) = await desk.get_project_immutable_tag_rules(name)
    assert (shown.disabled, [one.pattern for one in shown.tag_selectors or []]) == (True, ["w*"])
    await desk.delete_project_immutable_tag_rule(name, made)
    await _retention(desk, number)
    await _webhooks(desk)


async def _retention(desk: Desk, number: int) -> None:
    selector = models.RetentionSelector(kind="doublestar", decoration="matches", pattern="**")
    retain = models.RetentionRule(
        action="retain",
        template="latestPushedK",
        params={"latestPushedK": 3},
        tag_selectors=[selector],
        scope_selectors={"repository": [selector]},
    )
    policy = models.RetentionPolicy(
        algorithm="or",
        rules=[retain],
        trigger=models.RetentionRuleTrigger(kind="Schedule", settings={"cron": ""}),
        scope=models.RetentionPolicyScope(level="project", ref=number),
    )
    assert (await desk.get_retention_metadata()).templates
    kept = id_in(await desk.create_retention_policy(policy))
    assert await desk.get_project_retention_id(desk.name("team")) == kept
    shown = await desk.get_retention_policy(kept)
    await desk.update_retention_policy(kept, shown.model_copy(update={"rules": []}))
    assert not (await desk.get_retention_policy(kept)).rules
    execution = id_in(await desk.start_retention_execution(kept, dry_run=True))
    assert [one.id for one in await desk.get_retention_executions(kept)] == [execution]
    await desk.stop_retention_execution(kept, execution)
    for task in await desk.get_retention_tasks(kept, execution):
        assert task.id is not None
    with pytest.raises(NotFound):
        await desk.get_retention_execution_task_log(kept, execution, 10**6)
    await desk.delete_retention_policy(kept)


async def _webhooks(desk: Desk) -> None:
    name = desk.name("team")
    target = models.WebhookTargetObject(type="http", address="http://127.0.0.1:9/hook", auth_header="Bearer x")
    hook = models.WebhookPolicy(name="wh", targets=[target], event_types=["PUSH_ARTIFACT"], enabled=True)
    assert "PUSH_ARTIFACT" in {one.root for one in (await desk.get_webhook_supported_events(name)).event_type or []}
    made = id_in(await desk.create_webhook_policy(name, hook))
    shown = await desk.get_webhook_policy(name, made)
    assert shown.targets is not None
    assert shown.targets[0].auth_header == "Bearer x"
    await desk.update_webhook_policy(name, made, shown.model_copy(update={"enabled": False}))
    assert [(one.id, one.enabled) for one in await desk.get_webhook_policies(name)] == [(made, False)]
    assert await desk.get_webhook_jobs(name, made) == []
    assert [one.policy_name for one in await desk.get_webhook_policy_last_trigger(name)] == ["wh"]
    await desk.delete_webhook_policy(name, made)


async def end(desk: Desk, number: int) -> None:
    """Delete the project; what was done to it stays written down."""
    name = desk.name("team")
    logged = {(one.resource_type, one.operation) for one in await desk.get_project_logs(name)}
    assert ("artifact", "create") in logged
    await desk.delete_project(name)
    with pytest.raises(NotFound):
        await desk.get_project(number)
    operations = [log.operation for log in await desk.get_audit_logs(query=f"resource={name}")]
    assert (operations[0], operations[-1]) == ("delete", "create")
