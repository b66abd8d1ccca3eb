"""harborapi, Harbor's async client for Python, makes, reads, changes and deletes all that is managed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from harborapi import HarborAsyncClient, models
from harborapi.exceptions import NotFound

from tests.support.foreign import SECRET, USER, foreign_server
from tests.support.single import running_node


@pytest.fixture
async def client(tmp_path: Any) -> AsyncIterator[HarborAsyncClient]:  # noqa: ANN401 - pytest's
    """A client of a node's administrator."""
    with running_node(tmp_path) as node:
        made = HarborAsyncClient(url=f"http://{node.address}/api/v2.0", username=node.user, secret=node.password)
        yield made
        await made.client.aclose()


def id_in(location: str) -> int:
    return int(location.rpartition("/")[2])


# The client reads its settings in a way that pydantic has since frowned upon.
@pytest.mark.filterwarnings("ignore:Accessing the 'model_fields' attribute")
async def test_all_that_is_managed_is_made_read_changed_and_deleted(client: HarborAsyncClient) -> None:
    assert (await client.get_system_info()).auth_mode == "db_auth"
    assert (await client.health_check()).status == "healthy"
    project = await _project(client)
    await _people(client, project)
    await _rules(client, project)
    await _foreign(client)
    await _system(client)
    await client.delete_project("team")
    with pytest.raises(NotFound):
        await client.get_project(project)
    assert [log.operation for log in await client.get_audit_logs(query="resource=team")] == ["delete", "update", "create"]


async def _project(client: HarborAsyncClient) -> int:
    metadata = models.ProjectMetadata(public="false")
    await client.create_project(models.ProjectReq(project_name="team", metadata=metadata))
    made = await client.get_project("team")
    assert made.metadata is not None
    assert made.metadata.public == "false"
    await client.update_project("team", models.ProjectReq(metadata=models.ProjectMetadata(public="true")))
    changed = await client.get_project("team")
    assert changed.metadata is not None
    assert changed.metadata.public == "true"
    assert (await client.get_project_deletable("team")).deletable
    assert made.project_id is not None
    return made.project_id


async def _people(client: HarborAsyncClient, project: int) -> None:
    body = models.UserCreationReq(username="alice", email="alice@x.io", realname="Alice", password="Passw0rd1", comment="")
    number = id_in(await client.create_user(body))
    assert (await client.get_user(number)).username == "alice"
    await client.set_user_admin(number, is_admin=True)
    assert (await client.get_user(number)).sysadmin_flag
    await client.add_project_member_user("team", "alice", role_id=2)
    members = {member.entity_name: member.role_name for member in await client.get_project_members(project)}
    assert members == {"admin": "projectAdmin", "alice": "developer"}
    access = [models.Access(resource="repository", action="pull")]
    permissions = [models.RobotPermission(kind="project", namespace="team", access=access)]
    robot = await client.create_robot(models.RobotCreate(name="ci", level="project", duration=7, permissions=permissions))
    assert robot.id is not None
    assert robot.secret
    assert (await client.get_robot(robot.id)).name == "robot$team+ci"
    await client.delete_robot(robot.id)
    await client.delete_user(number)


async def _rules(client: HarborAsyncClient, project: int) -> None:
    label = id_in(await client.create_label(models.Label(name="gold", scope="g", color="#FF0000")))
    await client.update_label(label, models.Label(name="golden", scope="g"))
    assert [one.name for one in await client.get_labels(scope="g")] == ["golden"]
    await client.delete_label(label)
    tags = [models.ImmutableSelector(kind="doublestar", decoration="matches", pattern="v*")]
    scope = {"repository": [models.ImmutableSelector(kind="doublestar", decoration="repoMatches", pattern="**")]}
    rule = models.ImmutableRule(
        action="immutable", template="immutable_template", tag_selectors=tags, scope_selectors=scope, disabled=False
    )
    number = id_in(await client.create_project_immutable_tag_rule("team", rule))
    assert [one.id for one in await client.get_project_immutable_tag_rules("team")] == [number]
    await client.delete_project_immutable_tag_rule("team", number)
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
        scope=models.RetentionPolicyScope(level="project", ref=project),
    )
    kept = id_in(await client.create_retention_policy(policy))
    assert await client.get_project_retention_id("team") == kept
    await client.delete_retention_policy(kept)
    target = models.WebhookTargetObject(type="http", address="http://127.0.0.1:9/hook", auth_header="Bearer x")
    hook = models.WebhookPolicy(name="wh", targets=[target], event_types=["PUSH_ARTIFACT"], enabled=True)
    made = id_in(await client.create_webhook_policy("team", hook))
    found = await client.get_webhook_policy("team", made)
    assert found.targets is not None
    assert found.targets[0].auth_header == "Bearer x"
    await client.delete_webhook_policy("team", made)


async def _foreign(client: HarborAsyncClient) -> None:
    async with foreign_server() as other:
        credential = models.RegistryCredential(type="basic", access_key=USER, access_secret=SECRET)
        endpoint = models.Registry(name="other", type="harbor", url=other.url, insecure=True, credential=credential)
        registry = id_in(await client.create_registry(endpoint))
        assert (await client.get_registry(registry)).status == "healthy"
        policy = models.ReplicationPolicy(
            name="out",
            dest_registry=models.Registry(id=registry),
            trigger=models.ReplicationTrigger(type="manual"),
            enabled=True,
        )
        number = id_in(await client.create_replication_policy(policy))
        execution = id_in(await client.start_replication(number))
        assert (await client.get_replication(execution)).status == "Failed"
        await client.delete_replication_policy(number)
        await client.delete_registry(registry)


async def _system(client: HarborAsyncClient) -> None:
    schedule = models.Schedule(
        schedule=models.ScheduleObj(type=models.Type.daily, cron="0 0 0 * * *"), parameters={"delete_untagged": True}
    )
    await client.create_gc_schedule(schedule)
    found = (await client.get_gc_schedule()).schedule
    assert found is not None
    assert found.cron == "0 0 0 * * *"
    items = [models.CVEAllowlistItem(cve_id="CVE-2021-1")]
    await client.update_cve_allowlist(models.CVEAllowlist(items=items))
    assert (await client.get_cve_allowlist()).items == items
    assert [one.name for one in await client.get_registries()] == []
    assert "harbor" in await client.get_registry_adapters()
