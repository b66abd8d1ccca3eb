"""Makes, reads, changes and deletes all that is managed by harbor-api-client, a client generated from Harbor's description.

Run by the interpreter that has it: ADDRESS of the way in, ADDRESS to read at, USER, PASSWORD, TOKEN for names, STAGE.
Ends with 0 if all is well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import harbor_client as harbor
from harbor_client.rest import ApiException


class Way:
    """The client's parts, each by its name, at one address."""

    def __init__(self, address: str, user: str, password: str) -> None:
        """Log in with every request."""
        configuration = harbor.Configuration()
        configuration.host = f"http://{address}/api/v2.0"
        configuration.username, configuration.password = user, password
        self._client = harbor.ApiClient(configuration)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the client has no types
        """Return a part: `way.Project` is its ProjectApi."""
        return getattr(harbor, f"{name}Api")(self._client)


def created(answer: tuple[Any, int, Any]) -> int:
    """Return the number of what was made, from the answer with its status and headers."""
    _, status, headers = answer
    assert status == 201, answer
    return int(headers["Location"].rpartition("/")[2])


def assert_gone(get: Callable[..., object], *arguments: object) -> None:
    """Fail unless it is answered with 404."""
    status = 0
    try:
        get(*arguments)
    except ApiException as error:
        status = error.status
    assert status == 404, (arguments, status)


def projects(way: Way, reads: Way, token: str) -> int:
    """A project, its quota and its metadata."""
    name = f"gen-{token}"
    request = harbor.ProjectReq(project_name=name, metadata=harbor.ProjectMetadata(public="false"), storage_limit=10**9)
    number = created(way.Project.create_project_with_http_info(request))
    shown = reads.Project.get_project(name)
    assert (shown.project_id, shown.metadata.public, shown.owner_name) == (number, "false", "admin")
    way.Project.update_project(name, harbor.ProjectReq(metadata=harbor.ProjectMetadata(public="true")))
    assert [one.metadata.public for one in reads.Project.list_projects(name=name)] == ["true"]
    (quota,) = reads.Quota.list_quotas(reference="project", reference_id=str(number))
    assert quota.hard == {"storage": 10**9}
    way.Quota.update_quota(quota.id, harbor.QuotaUpdateReq(hard={"storage": -1}))
    assert reads.Quota.get_quota(quota.id).hard == {"storage": -1}
    way.ProjectMetadata.add_project_metadatas(name, metadata={"auto_scan": "true"})
    assert reads.ProjectMetadata.get_project_metadata(name, "auto_scan") == {"auto_scan": "true"}
    way.ProjectMetadata.delete_project_metadata(name, "auto_scan")
    assert "auto_scan" not in reads.ProjectMetadata.list_project_metadatas(name)
    assert reads.Project.get_project_summary(name).repo_count == 0
    return number


def people(way: Way, reads: Way, token: str) -> None:
    """A user, a group, and both as members."""
    name, project = f"gen-{token}", f"gen-{token}"
    request = harbor.UserCreationReq(username=name, email=f"{name}@x.io", realname="G", password="Passw0rd1", comment="c")
    user = created(way.User.create_user_with_http_info(request))
    assert reads.User.get_user(user).comment == "c"
    way.User.update_user_profile(user, harbor.UserProfile(email=f"{name}@y.io", realname="Gen", comment=""))
    assert [one.realname for one in reads.User.list_users(q=f"username={name}")] == ["Gen"]
    way.User.set_user_sys_admin(user, harbor.UserSysAdminFlag(sysadmin_flag=True))
    assert reads.User.get_user(user).sysadmin_flag
    way.User.set_user_sys_admin(user, harbor.UserSysAdminFlag(sysadmin_flag=False))
    group = created(way.Usergroup.create_user_group_with_http_info(usergroup=harbor.UserGroup(group_name=name, group_type=3)))
    assert reads.Usergroup.get_user_group(group).group_name == name
    members = []
    for who in ({"member_user": harbor.UserEntity(username=name)}, {"member_group": harbor.UserGroup(id=group)}):
        member = harbor.ProjectMember(role_id=2, **who)
        members.append(created(way.Member.create_project_member_with_http_info(project, project_member=member)))
    way.Member.update_project_member(project, members[0], role=harbor.RoleRequest(role_id=3))
    assert reads.Member.get_project_member(project, members[0]).role_name == "guest"
    roles = {(one.entity_type, one.role_id) for one in reads.Member.list_project_members(project)}
    assert roles == {("u", 1), ("u", 3), ("g", 2)}, roles
    for member in members:
        way.Member.delete_project_member(project, member)
        assert_gone(reads.Member.get_project_member, project, member)
    way.Usergroup.delete_user_group(group)
    assert_gone(reads.Usergroup.get_user_group, group)
    way.User.delete_user(user)
    assert_gone(reads.User.get_user, user)


def robots(way: Way, reads: Way, token: str) -> None:
    """A robot of a project and one of the system."""
    project = f"gen-{token}"
    access = [harbor.Access(resource="repository", action="pull")]
    for level, kind, namespace in (("project", "project", project), ("system", "project", "*")):
        permission = harbor.RobotPermission(kind=kind, namespace=namespace, access=access)
        request = harbor.RobotCreate(name=f"r{token}", level=level, duration=30, disable=False, permissions=[permission])
        made = way.Robot.create_robot(request)
        assert made.secret
        robot = reads.Robot.get_robot_by_id(made.id)
        assert (robot.name, robot.duration, robot.permissions[0].namespace) == (made.name, 30, namespace)
        robot.disable = True
        way.Robot.update_robot(made.id, robot)
        assert reads.Robot.get_robot_by_id(made.id).disable
        assert way.Robot.refresh_sec(made.id, harbor.RobotSec(secret="Refreshed-1")) is not None
        way.Robot.delete_robot(made.id)
        assert_gone(reads.Robot.get_robot_by_id, made.id)


def rules(way: Way, reads: Way, token: str, number: int) -> None:
    """Labels, immutability, retention and webhooks."""
    project = f"gen-{token}"
    request = harbor.Label(name=f"gen-{token}", scope="p", project_id=number, color="#FF0000", description="d")
    label = created(way.Label.create_label_with_http_info(request))
    request.description = "e"
    way.Label.update_label(label, request)
    assert [(one.id, one.description) for one in reads.Label.list_labels(scope="p", project_id=number)] == [(label, "e")]
    way.Label.delete_label(label)
    assert_gone(reads.Label.get_label_by_id, label)
    tags = [harbor.ImmutableSelector(kind="doublestar", decoration="matches", pattern="v*")]
    repositories = {"repository": [harbor.ImmutableSelector(kind="doublestar", decoration="repoMatches", pattern="**")]}
    rule = harbor.ImmutableRule(
        action="immutable", template="immutable_template", tag_selectors=tags, scope_selectors=repositories
    )
    made = created(way.Immutable.create_immu_rule_with_http_info(project, rule))
    rule.id, rule.disabled = made, True
    way.Immutable.update_immu_rule(project, made, rule)
    assert [(one.id, one.disabled) for one in reads.Immutable.list_immu_rules(project)] == [(made, True)]
    way.Immutable.delete_immu_rule(project, made)
    assert reads.Immutable.list_immu_rules(project) == []
    selector = harbor.RetentionSelector(kind="doublestar", decoration="matches", pattern="**", extras='{"untagged":true}')
    kept = harbor.RetentionRule(
        action="retain",
        template="always",
        params={},
        tag_selectors=[selector],
        scope_selectors={"repository": [harbor.RetentionSelector(kind="doublestar", decoration="repoMatches", pattern="**")]},
    )
    trigger = harbor.RetentionRuleTrigger(kind="Schedule", settings={"cron": "0 0 0 * * *"}, references={})
    scope = harbor.RetentionPolicyScope(level="project", ref=number)
    policy = harbor.RetentionPolicy(algorithm="or", rules=[kept], trigger=trigger, scope=scope)
    retention = created(way.Retention.create_retention_with_http_info(policy))
    assert reads.Retention.get_retention(retention).rules[0].template == "always"
    policy.rules[0].disabled = True
    way.Retention.update_retention(retention, policy)
    assert reads.Retention.get_retention(retention).rules[0].disabled
    way.Retention.delete_retention(retention)
    assert_gone(reads.Retention.get_retention, retention)
    webhooks(way, reads, project)


def webhooks(way: Way, reads: Way, project: str) -> None:
    """Webhook policies."""
    target = harbor.WebhookTargetObject(type="http", address="http://127.0.0.1:9/", auth_header="Bearer x")
    policy = harbor.WebhookPolicy(name="hook", targets=[target], event_types=["PUSH_ARTIFACT"], enabled=True)
    made = created(way.Webhook.create_webhook_policy_of_project_with_http_info(project, policy))
    assert reads.Webhook.get_webhook_policy_of_project(project, made).targets[0].auth_header == "Bearer x"
    policy.enabled = False
    way.Webhook.update_webhook_policy_of_project(project, made, policy)
    assert [one.enabled for one in reads.Webhook.list_webhook_policies_of_project(project)] == [False]
    assert "PUSH_ARTIFACT" in reads.Webhook.get_supported_event_types(project).event_type
    way.Webhook.delete_webhook_policy_of_project(project, made)
    assert_gone(reads.Webhook.get_webhook_policy_of_project, project, made)


def foreign(way: Way, reads: Way, token: str, url: str, password: str) -> None:
    """An endpoint, which is the other master, a replication policy, and a preheat instance."""
    credential = harbor.RegistryCredential(type="basic", access_key="admin", access_secret=password)
    request = harbor.Registry(name=f"gen-{token}", type="harbor", url=url, insecure=True, credential=credential)
    registry = created(way.Registry.create_registry_with_http_info(request))
    way.Registry.update_registry(registry, harbor.RegistryUpdate(description="there"))
    assert reads.Registry.get_registry(registry).description == "there"
    assert "harbor" in reads.Registry.list_registry_provider_types()
    policy = harbor.ReplicationPolicy(
        name=f"gen-{token}",
        dest_registry=harbor.Registry(id=registry),
        trigger=harbor.ReplicationTrigger(type="manual"),
        filters=[harbor.ReplicationFilter(type="name", value="library/**")],
        enabled=True,
    )
    made = created(way.Replication.create_replication_policy_with_http_info(policy))
    shown = reads.Replication.get_replication_policy(made)
    assert (shown.dest_registry.id, shown.filters[0].value) == (registry, "library/**")
    shown.enabled = False
    way.Replication.update_replication_policy(made, shown)
    assert [one.enabled for one in reads.Replication.list_replication_policies(name=f"gen-{token}")] == [False]
    way.Replication.delete_replication_policy(made)
    way.Registry.delete_registry(registry)
    assert_gone(reads.Registry.get_registry, registry)
    net = harbor.Instance(
        name=f"gen-{token}", vendor="dragonfly", endpoint="http://127.0.0.1:9", auth_mode="NONE", enabled=True
    )
    way.Preheat.create_instance(net)
    assert reads.Preheat.get_instance(net.name).vendor == "dragonfly"
    way.Preheat.delete_instance(net.name)
    assert_gone(reads.Preheat.get_instance, net.name)


def system(way: Way, reads: Way) -> None:
    """What holds for the whole system."""
    assert reads.Health.get_health().status == "healthy"
    assert reads.Ping.get_ping() == "Pong"
    assert reads.Systeminfo.get_system_info().auth_mode == "db_auth"
    assert reads.Systeminfo.get_volumes().storage
    assert reads.Statistic.get_statistic().total_project_count > 0
    assert reads.Permissions.get_permissions().system
    before = reads.Configure.get_configurations().session_timeout.value
    way.Configure.update_configurations(harbor.Configurations(session_timeout=55))
    assert reads.Configure.get_configurations().session_timeout.value == 55
    way.Configure.update_configurations(harbor.Configurations(session_timeout=before))
    way.SystemCVEAllowlist.put_system_cve_allowlist(
        allowlist=harbor.CVEAllowlist(items=[harbor.CVEAllowlistItem(cve_id="C-1")])
    )
    assert [one.cve_id for one in reads.SystemCVEAllowlist.get_system_cve_allowlist().items] == ["C-1"]
    way.SystemCVEAllowlist.put_system_cve_allowlist(allowlist=harbor.CVEAllowlist(items=[]))
    daily = harbor.ScheduleObj(type="Daily", cron="0 0 0 * * *")
    way.Gc.create_gc_schedule(harbor.Schedule(schedule=daily, parameters={"delete_untagged": True}))
    assert reads.Gc.get_gc_schedule().schedule.cron == daily.cron
    way.Gc.update_gc_schedule(harbor.Schedule(schedule=harbor.ScheduleObj(type="None", cron=""), parameters={}))
    assert isinstance(reads.Gc.get_gc_history(), list)


def content(reads: Way, token: str) -> None:
    """What was pushed before as a/app:v1."""
    project = f"gen-{token}"
    (repository,) = reads.Repository.list_repositories(project)
    assert repository.name == f"{project}/a/app"
    # The client escapes a name once, and wants it escaped twice, as Harbor's description does.
    escaped = "a%2Fapp"
    assert reads.Repository.get_repository(project, escaped).artifact_count == 1
    (artifact,) = reads.Artifact.list_artifacts(project, escaped, with_tag=True, with_label=True)
    assert [tag.name for tag in artifact.tags] == ["v1"]
    assert reads.Artifact.get_artifact(project, escaped, "v1").digest == artifact.digest
    assert reads.Artifact.get_addition(project, escaped, "v1", "build_history")
    reads.Artifact.create_tag(project, escaped, "v1", harbor.Tag(name="v2"))
    assert {tag.name for tag in reads.Artifact.list_tags(project, escaped, "v1")} == {"v1", "v2"}
    reads.Artifact.delete_tag(project, escaped, "v1", "v2")
    reads.Artifact.copy_artifact(project, "copy", f"{project}/a/app:v1")
    assert reads.Artifact.get_artifact(project, "copy", artifact.digest).digest == artifact.digest
    reads.Repository.delete_repository(project, "copy")
    reads.Repository.delete_repository(project, escaped)
    assert reads.Auditlog.list_audit_logs(q=f"resource={project}")


def main(address: str, other: str, user: str, password: str, *more: str) -> None:
    """Do one of the two stages: before something is pushed, and after."""
    token, stage = more
    way, reads = Way(address, user, password), Way(other, user, password)
    if stage == "first":
        projects(way, reads, token)
        return
    project = f"gen-{token}"
    number = reads.Project.get_project(project).project_id
    people(way, reads, token)
    robots(way, reads, token)
    rules(way, reads, token, number)
    foreign(way, reads, token, f"http://{other}", password)
    system(way, reads)
    content(way, token)
    way.Project.delete_project(project)
    # By its number: whether there is a project of some name is nobody's business.
    assert_gone(reads.Project.get_project, number)


if __name__ == "__main__":
    main(*sys.argv[1:])
