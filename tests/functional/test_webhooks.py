"""What is done in a project is told to those whom its policies name, once, in Harbor's words; nothing is told to others."""

from __future__ import annotations

import json
import secrets
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.accounts import PASSWORD, AccountsNode, add_member, make_project, make_user, push_image, robot_body, site
from tests.support.hooks import Hooks, hooks, receiver
from tests.support.packaged_chart import chart
from tests.support.receiver import running_receiver
from twinhull.gateway.certificate import self_signed
from twinhull.kit.clock import SystemClock
from twinhull.kit.digest import digest_of

__all__ = ["hooks", "receiver", "site"]

# What Harbor sends: the fields of each thing, and of what type they are.
RESOURCE: Final = {"digest": str, "tag": str, "resource_url": str}
REPOSITORY: Final = {"date_created": int, "name": str, "namespace": str, "repo_full_name": str, "repo_type": str}
MEDIA_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"


def assert_shape(value: Mapping[str, Any], shape: Mapping[str, type]) -> None:
    assert {name: type(held) for name, held in value.items()} == shape


async def test_push_is_told_with_all_that_harbor_says_of_it(hooks: Hooks, site: AccountsNode) -> None:
    project = await make_project(site.admin, "team", public=True)
    await hooks.policy(project, auth_header="Bearer abc")
    await make_user(site, "alice")
    await add_member(site, project, "alice", 2)
    await push_image(site.user("alice", PASSWORD), "team/sub/app")
    [told] = await hooks.told()
    digest = told["event_data"]["resources"][0]["digest"]
    assert_shape(told, {"type": str, "occur_at": int, "operator": str, "event_data": dict})
    assert (told["type"], told["operator"]) == ("PUSH_ARTIFACT", "alice")
    data = told["event_data"]
    assert list(data) == ["resources", "repository"]
    assert_shape(data["repository"], REPOSITORY)
    assert_shape(data["resources"][0], RESOURCE)
    assert data["repository"] | {"date_created": 0} == {
        "date_created": 0,
        "name": "sub/app",
        "namespace": "team",
        "repo_full_name": "team/sub/app",
        "repo_type": "public",
    }
    assert data["resources"] == [{"digest": digest, "tag": "v1", "resource_url": "registry.test/team/sub/app:v1"}]
    shown = await site.admin.ok(200, "GET", "/projects/team/repositories/sub%252Fapp/artifacts/v1")
    assert shown["digest"] == digest
    [delivery] = hooks.receiver.deliveries
    assert delivery.headers["authorization"] == "Bearer abc"
    assert delivery.headers["content-type"] == "application/json"
    assert delivery.event_id


async def test_each_new_tag_is_told_and_the_same_push_again_is_not(hooks: Hooks, site: AccountsNode) -> None:
    project = await make_project(site.admin, "team")
    await hooks.policy(project, "PUSH_ARTIFACT")
    await push_image(site.admin, "team/app")
    await push_image(site.admin, "team/app")
    content = (await site.admin("GET", "/v2/team/app/manifests/v1")).body
    await site.admin.ok(201, "PUT", "/v2/team/app/manifests/v2", json.loads(content), content_type=MEDIA_TYPE)
    tags = [one["event_data"]["resources"][0]["tag"] for one in await hooks.told()]
    assert tags == ["v1", "v2"]
    assert len({one.event_id for one in hooks.receiver.deliveries}) == 2


async def test_pulls_are_told_once_for_whoever_pulled_and_anonymous_ones_without_a_name(
    hooks: Hooks, site: AccountsNode
) -> None:
    project = await make_project(site.admin, "team", public=True)
    await push_image(site.admin, "team/app")
    await hooks.policy(project, "PULL_ARTIFACT")
    digest = (await site.admin("GET", "/v2/team/app/manifests/v1"))["docker-content-digest"]
    await site.admin("GET", "/v2/team/app/manifests/v1")
    await site.admin("GET", f"/v2/team/app/manifests/{digest}")
    await site.anonymous(
        "GET", "/v2/team/app/manifests/v1", authorization="Bearer " + await site.anonymous.token("repository:team/app:pull")
    )
    told = await hooks.told()
    named = sorted((one["operator"], one["event_data"]["resources"][0]["tag"]) for one in told)
    assert named == [("", "v1"), ("admin", digest), ("admin", "v1")]
    by_digest = next(one for one in told if one["event_data"]["resources"][0]["tag"] == digest)
    assert by_digest["event_data"]["resources"][0]["resource_url"] == f"registry.test/team/app@{digest}"


async def test_deletion_is_told_with_a_tag_that_the_artifact_had(hooks: Hooks, site: AccountsNode) -> None:
    project = await make_project(site.admin, "team")
    await hooks.policy(project, "DELETE_ARTIFACT")
    await push_image(site.admin, "team/app")
    await push_image(site.admin, "team/other")
    await site.admin.ok(200, "DELETE", "/projects/team/repositories/app/artifacts/v1")
    await site.admin.ok(200, "DELETE", "/projects/team/repositories/other")
    first, second = sorted(await hooks.told(), key=lambda one: one["event_data"]["repository"]["name"])
    assert (first["type"], first["operator"]) == ("DELETE_ARTIFACT", "admin")
    assert first["event_data"]["resources"][0]["resource_url"] == "registry.test/team/app:v1"
    assert_shape(first["event_data"]["resources"][0], RESOURCE)
    # Of a repository that is gone nobody knows any more when it was made, as in Harbor.
    assert second["event_data"]["repository"] == {
        "name": "other",
        "namespace": "team",
        "repo_full_name": "team/other",
        "repo_type": "private",
    }


async def test_charts_are_told_as_charts(hooks: Hooks, site: AccountsNode) -> None:
    project = await make_project(site.admin, "team")
    await hooks.policy(project)
    archive = chart("app", "1.0.0")
    assert (await site.admin("POST", "/api/chartrepo/team/charts", archive, content_type="application/x-tar")).status == 201
    assert (await site.admin("GET", "/chartrepo/team/charts/app-1.0.0.tgz")).body == archive
    uploaded, downloaded = await hooks.told()
    await site.admin.ok(200, "DELETE", "/api/chartrepo/team/charts/app/1.0.0")
    deleted = (await hooks.told())[-1]
    types = ("UPLOAD_CHART", "DOWNLOAD_CHART", "DELETE_CHART")
    assert (uploaded["type"], downloaded["type"], deleted["type"]) == types
    assert uploaded["event_data"] == downloaded["event_data"] == deleted["event_data"]
    assert uploaded["event_data"] == {
        "resources": [{"tag": "1.0.0", "resource_url": "https://registry.test/chartrepo/team/charts/app-1.0.0.tgz"}],
        "repository": {"name": "app", "namespace": "team", "repo_full_name": "team/app", "repo_type": "private"},
    }


async def test_full_and_nearly_full_projects_are_told_of(hooks: Hooks, site: AccountsNode) -> None:
    project = await site.admin.create("/projects", {"project_name": "small", "storage_limit": 1000})
    await hooks.policy(project, "QUOTA_EXCEED", "QUOTA_WARNING")
    content = secrets.token_bytes(700)
    path = f"/v2/small/q/blobs/uploads/?digest={digest_of(content)}"
    assert (await site.admin("POST", path, content, content_type="application/octet-stream")).status == 201
    assert await hooks.told() == []
    await push_image(site.admin, "small/q")
    [warned] = await hooks.told()
    assert_shape(warned, {"type": str, "occur_at": int, "operator": str, "event_data": dict})
    assert (warned["type"], warned["operator"]) == ("QUOTA_WARNING", "")
    assert warned["event_data"]["repository"]["repo_full_name"] == "small/q"
    assert "date_created" not in warned["event_data"]["repository"]
    assert warned["event_data"]["custom_attributes"]["Details"].startswith("quota usage reach 85%: resource storage used ")
    more = secrets.token_bytes(700)
    path = f"/v2/small/q/blobs/uploads/?digest={digest_of(more)}"
    assert (await site.admin("POST", path, more, content_type="application/octet-stream")).status == 403
    exceeded = (await hooks.told())[-1]
    assert exceeded["type"] == "QUOTA_EXCEED"
    assert exceeded["event_data"]["custom_attributes"]["Details"].startswith("adding 700 B of storage resource")


async def test_nothing_is_written_where_nobody_wants_to_know(hooks: Hooks, site: AccountsNode) -> None:
    project = await make_project(site.admin, "team")
    await hooks.policy(project, "QUOTA_EXCEED")
    number = await hooks.policy(project, "PUSH_ARTIFACT")
    policy = await site.admin.ok(200, "GET", f"/projects/{project}/webhook/policies/{number}")
    await site.admin.ok(200, "PUT", f"/projects/{project}/webhook/policies/{number}", {**policy, "enabled": False})
    await push_image(site.admin, "team/app")
    position = site.store.position()
    await hooks.settle()
    assert site.store.position() == position
    assert hooks.receiver.deliveries == []


async def test_all_webhooks_are_silent_while_the_setting_says_so(hooks: Hooks, site: AccountsNode) -> None:
    project = await make_project(site.admin, "team")
    await hooks.policy(project, "PUSH_ARTIFACT")
    await site.admin.ok(200, "PUT", "/configurations", {"notification_enable": False})
    await push_image(site.admin, "team/app")
    assert await hooks.told() == []
    await site.admin.ok(200, "PUT", "/configurations", {"notification_enable": True})
    await push_image(site.admin, "team/app2")
    assert len(await hooks.told()) == 1


async def test_cloud_events_and_slack_come_in_their_forms(hooks: Hooks, site: AccountsNode) -> None:
    project = await make_project(site.admin, "team")
    number = await hooks.policy(project, "PUSH_ARTIFACT", payload_format="CloudEvents")
    await hooks.policy(project, "PUSH_ARTIFACT", type="slack")
    await push_image(site.admin, "team/app")
    await hooks.settle()
    [cloud] = hooks.receiver.matching(lambda one: one.headers["content-type"] == "application/cloudevents+json")
    assert (cloud.body["id"], cloud.body["type"]) == (cloud.event_id, "harbor.artifact.pushed")
    assert cloud.body["source"] == f"/projects/{project}/webhook/policies/{number}"
    assert cloud.body["data"]["repository"]["repo_full_name"] == "team/app"
    [slack] = hooks.receiver.matching(lambda one: "blocks" in one.body)
    assert "PUSH_ARTIFACT" in slack.body["blocks"][1]["text"]["text"]


async def test_what_was_sent_is_shown_in_all_places(hooks: Hooks, site: AccountsNode) -> None:
    project = await make_project(site.admin, "team")
    number = await hooks.policy(project, "PUSH_ARTIFACT", "PULL_ARTIFACT", auth_header="Bearer s3cret")
    await push_image(site.admin, "team/app")
    [told] = await hooks.told()
    root = f"/projects/{project}/webhook"
    [job] = await site.admin.ok(200, "GET", f"{root}/jobs?policy_id={number}")
    fields = {"id": int, "policy_id": int, "event_type": str, "notify_type": str, "status": str, "job_detail": str}
    assert_shape(job, {**fields, "creation_time": str, "update_time": str})
    assert (job["policy_id"], job["event_type"], job["notify_type"], job["status"]) == (
        number, "PUSH_ARTIFACT", "http", "finished",
    )  # fmt: skip
    assert json.loads(job["job_detail"]) == told
    [execution] = await site.admin.ok(200, "GET", f"{root}/policies/{number}/executions")
    assert (execution["status"], execution["trigger"], execution["vendor_type"]) == ("Success", "EVENT", "WEBHOOK")
    assert execution["metrics"] == {"success_task_count": 1}
    assert execution["extra_attrs"]["event_type"] == "PUSH_ARTIFACT"
    tasks = f"{root}/policies/{number}/executions/{execution['id']}/tasks"
    [task] = await site.admin.ok(200, "GET", tasks)
    assert (task["status"], task["run_count"]) == ("Success", 1)
    log = (await site.admin("GET", f"{tasks}/{task['id']}/log")).body.decode()
    assert "with status 200" in log
    assert "s3cret" not in log + json.dumps([job, execution, task])
    triggers = {one["event_type"]: one for one in await site.admin.ok(200, "GET", f"{root}/lasttrigger")}
    assert triggers["PUSH_ARTIFACT"]["last_trigger_time"] == execution["start_time"]
    assert triggers["PULL_ARTIFACT"]["last_trigger_time"].startswith("0001-01-01")


@pytest.mark.parametrize("status", [500, 404, 302])
async def test_receiver_that_does_not_take_it_is_tried_again(hooks: Hooks, site: AccountsNode, status: int) -> None:
    project = await make_project(site.admin, "team")
    number = await hooks.policy(project, "PUSH_ARTIFACT", auth_header="Bearer s3cret")
    with running_receiver() as elsewhere:
        hooks.receiver.status, hooks.receiver.location = status, elsewhere.url
        await push_image(site.admin, "team/app")
        await hooks.settle()
        assert elsewhere.deliveries == []
    [execution] = await site.admin.ok(200, "GET", f"/projects/{project}/webhook/policies/{number}/executions")
    assert execution["status"] == "Running"
    [task] = await site.admin.ok(
        200, "GET", f"/projects/{project}/webhook/policies/{number}/executions/{execution['id']}/tasks"
    )
    assert (task["status"], task["run_count"]) == ("Scheduled", 1)
    assert f"answered with status {status}" in task["status_message"]
    hooks.receiver.status = 200
    hooks.restart()
    deadline = site.store.clock.monotonic_s() + 10
    while len(hooks.receiver.deliveries) < 2:
        assert site.store.clock.monotonic_s() < deadline
        await hooks.runner.wait_for_work()
        await hooks.settle()
    first, second = hooks.receiver.deliveries
    assert (first.event_id, first.text) == (second.event_id, second.text)
    [execution] = await site.admin.ok(200, "GET", f"/projects/{project}/webhook/policies/{number}/executions")
    assert execution["status"] == "Success"


async def test_header_is_the_one_that_the_policy_has_when_it_is_sent(hooks: Hooks, site: AccountsNode) -> None:
    project = await make_project(site.admin, "team")
    number = await hooks.policy(project, "PUSH_ARTIFACT", auth_header="old")
    hooks.receiver.status = 500
    await push_image(site.admin, "team/app")
    await hooks.settle()
    path = f"/projects/{project}/webhook/policies/{number}"
    policy = await site.admin.ok(200, "GET", path)
    policy["targets"][0]["auth_header"] = "new"
    await site.admin.ok(200, "PUT", path, policy)
    hooks.receiver.status = 200
    await hooks.runner.wait_for_work()
    await hooks.settle()
    await hooks.runner.wait_for_work()
    await hooks.settle()
    assert [one.headers["authorization"] for one in hooks.receiver.deliveries] == ["old", "new"]


async def test_receivers_certificate_is_checked_unless_the_policy_says_otherwise(
    hooks: Hooks, site: AccountsNode, tmp_path: Path
) -> None:
    certificate, key = self_signed([], tmp_path / "tls", SystemClock())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    project = await make_project(site.admin, "team")
    with running_receiver(tls=context) as receiver:
        await hooks.policy(project, "PUSH_ARTIFACT", address=receiver.url)
        trusting = await hooks.policy(project, "PUSH_ARTIFACT", address=receiver.url, skip_cert_verify=True)
        await push_image(site.admin, "team/app")
        await hooks.settle()
        assert len(receiver.deliveries) == 1
    path = f"/projects/{project}/webhook/policies/{trusting}/executions"
    assert [one["status"] for one in await site.admin.ok(200, "GET", path)] == ["Success"]


async def test_policy_that_is_gone_sends_no_more(hooks: Hooks, site: AccountsNode) -> None:
    project = await make_project(site.admin, "team")
    number = await hooks.policy(project, "PUSH_ARTIFACT")
    await push_image(site.admin, "team/app")
    while await hooks.reader.work() is not None:
        pass
    await site.admin.ok(200, "DELETE", f"/projects/{project}/webhook/policies/{number}")
    await hooks.settle()
    assert hooks.receiver.deliveries == []


async def test_what_happened_while_the_agent_was_down_is_told_after_it(hooks: Hooks, site: AccountsNode) -> None:
    project = await make_project(site.admin, "team")
    await hooks.policy(project, "PUSH_ARTIFACT")
    for number in range(3):
        await push_image(site.admin, f"team/app{number}")
    hooks.restart()
    told = await hooks.told()
    assert sorted(one["event_data"]["repository"]["name"] for one in told) == ["app0", "app1", "app2"]
    hooks.restart()
    assert len(await hooks.told()) == 3


async def test_robots_are_told_by_their_names(hooks: Hooks, site: AccountsNode) -> None:
    project = await make_project(site.admin, "team")
    await hooks.policy(project, "PUSH_ARTIFACT")
    robot = await site.admin.ok(201, "POST", "/robots", robot_body("ci", "team"))
    await push_image(site.user(robot["name"], robot["secret"]), "team/app")
    [told] = await hooks.told()
    assert told["operator"] == robot["name"]


async def test_trial_sends_one_event_at_once_and_says_when_it_was_not_taken(hooks: Hooks, site: AccountsNode) -> None:
    project = await make_project(site.admin, "team")
    target = {"type": "http", "address": hooks.receiver.url, "auth_header": "Bearer abc"}
    body = {"name": "t", "targets": [target], "event_types": ["PUSH_ARTIFACT"], "enabled": True}
    path = f"/projects/{project}/webhook/policies/test"
    await site.admin.ok(200, "POST", path, body)
    [delivery] = hooks.receiver.deliveries
    assert (delivery.body["type"], delivery.body["operator"]) == ("PUSH_ARTIFACT", "admin")
    assert_shape(delivery.body["event_data"]["resources"][0], RESOURCE)
    assert delivery.headers["authorization"] == "Bearer abc"
    hooks.receiver.status = 401
    refused = await site.admin.ok(400, "POST", path, body)
    assert "answered with status 401" in refused["errors"][0]["message"]
    assert "abc" not in json.dumps(refused)
