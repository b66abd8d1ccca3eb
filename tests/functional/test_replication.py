"""Replication policies are carried out: to and from a node that is another cluster, and a docker-registry."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.support.images import OCI_INDEX, Content, artifact, image, index
from tests.support.plain_registry import SECRET, USER, PlainRegistry, plain_registry
from tests.support.pushes import check_pull, digest_of_tag, push, put_manifest
from tests.support.receiver import running_receiver
from tests.support.registry_client import Repository
from tests.support.replications import Desk, wait_for
from tests.support.single import running_node

ONE: Final = image("one")
TWO: Final = image("two")
MULTI: Final = index("multi")
SIGNATURE: Final = artifact("signature", subject=ONE.manifest)
EVENTS: Final = {"trigger": {"type": "event_based"}}
_names = itertools.count(1)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The node that has the policies."""
    with running_node(tmp_path_factory.mktemp("here")) as node:
        yield Desk(node.address)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A node of another cluster: a Harbor to the first one."""
    with running_node(tmp_path_factory.mktemp("there")) as node:
        yield Desk(node.address)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainRegistry]:
    """A docker-registry that wants a password."""
    with plain_registry(tmp_path_factory.mktemp("plain"), private=True) as registry:
        yield registry


@pytest.fixture(scope="module")
def harbor(here: Desk, there: Desk) -> int:
    """The endpoint of the other node."""
    return here.add_registry("harbor", f"http://{there.address}", user=there.user, secret=there.password)


@pytest.fixture(scope="module")
def docker(here: Desk, plain: PlainRegistry) -> int:
    """The endpoint of the docker-registry."""
    return here.add_registry("docker-registry", plain.url, user=USER, secret=SECRET)


@pytest.fixture
def team(here: Desk) -> str:
    """A project of the test's own on the node that has the policies."""
    name = f"team{next(_names)}"
    here.make_project(name)
    return name


def push_index(repository: Repository, content: Content, tag: str) -> None:
    """Push an index with its images."""
    for child in content.children:
        push(repository, child, child.digest)
    put_manifest(repository, content, tag).expect(201)


def check_all(repository: Repository, content: Content, reference: str) -> None:
    """Pull an index or image whole."""
    check_pull(repository, content, reference)
    for child in content.children:
        check_pull(repository, child, child.digest)


def filled(desk: Desk, team: str) -> Repository:
    """Push images, an index and a signature to a repository of a project."""
    repository = desk.repository(f"{team}/app")
    push(repository, ONE, "v1")
    push(repository, TWO, "latest")
    push_index(repository, MULTI, "v2")
    push(repository, SIGNATURE, SIGNATURE.digest)
    return repository


def referrers(repository: Repository, content: Content) -> list[str]:
    """Return the digests of what refers to an image."""
    answer: Any = repository.get(f"referrers/{content.digest}").expect(200).json()
    return [one["digest"] for one in answer["manifests"]]


def named(repository: Repository, tag: str) -> str | None:
    """Return which manifest the tag names; None also as long as there is no such project."""
    answer = repository.head(f"manifests/{tag}").expect(200, 401, 404)
    return answer.header("Docker-Content-Digest") if answer.status == 200 else None


class TestPushes:
    def test_to_another_cluster_goes_what_the_filters_pick_with_all_that_belongs_to_it(
        self, here: Desk, there: Desk, harbor: int, team: str
    ) -> None:
        filled(here, team)
        push(here.repository(f"{team}/other/deep"), TWO, "v9")
        policy = here.add_policy(dest_registry=harbor, filters={"name": f"{team}/**", "tag": "v*", "resource": "image"})
        execution = here.carried_out(policy)
        assert (execution["total"], execution["succeed"], execution["trigger"]) == (2, 2, "manual"), execution
        tasks = here.tasks(execution["id"])
        assert [(one["src_resource"], one["dst_resource"], one["operation"], one["status"]) for one in tasks] == [
            (f"{name} [{count} item(s) in total]", f"{name} [{count} item(s) in total]", "copy", "Succeed")
            for name, count in ((f"{team}/app", 2), (f"{team}/other/deep", 1))
        ]
        copy = there.repository(f"{team}/app")
        check_all(copy, ONE, "v1")
        check_all(copy, MULTI, "v2")
        assert digest_of_tag(copy, "latest") is None
        assert referrers(copy, ONE) == [SIGNATURE.digest]
        log = here.log_of(execution["id"], tasks[0]["id"])
        assert f"copied: {sum(len(blob.content) for blob in ONE.blobs)} bytes" in log
        # The image, the index, and the signature; the index's images are part of it.
        assert "3 artifacts copied with" in log
        assert there.password not in here.told(execution["id"])
        again = here.carried_out(policy)
        assert "at the destination already: skipped" in here.told(again["id"])
        assert " copied: " not in here.told(again["id"])

    def test_a_project_is_made_as_public_as_its_source(self, here: Desk, there: Desk, harbor: int) -> None:
        for name, public in (("open", True), ("closed", False)):
            here.make_project(name, public=public)
            push(here.repository(f"{name}/app"), ONE, "v1")
        here.carried_out(here.add_policy(dest_registry=harbor, filters={"name": "{open,closed}/app"}))
        assert there.get("/projects/open")["metadata"]["public"] == "true"
        assert there.get("/projects/closed")["metadata"]["public"] == "false"

    def test_to_a_docker_registry_in_another_namespace(self, here: Desk, plain: PlainRegistry, docker: int, team: str) -> None:
        filled(here, team)
        policy = here.add_policy(
            dest_registry=docker,
            filters={"name": f"{team}/**"},
            dest_namespace=f"mirror/{team}",
            dest_namespace_replace_count=1,
        )
        execution = here.carried_out(policy)
        assert [one["dst_resource"] for one in here.tasks(execution["id"])] == [f"mirror/{team}/app [3 item(s) in total]"]
        copy = plain.repository(f"mirror/{team}/app")
        check_all(copy, ONE, "v1")
        check_all(copy, TWO, "latest")
        check_all(copy, MULTI, "v2")
        by_tag = copy.get(f"manifests/{ONE.digest.replace(':', '-')}", headers={"Accept": OCI_INDEX}).expect(200)
        listed: Any = by_tag.json()
        assert [one["digest"] for one in listed["manifests"]] == [SIGNATURE.digest]
        check_pull(copy, SIGNATURE, SIGNATURE.digest)

    def test_a_tag_that_names_something_else_there_stays_without_override(
        self, here: Desk, there: Desk, harbor: int, team: str
    ) -> None:
        there.make_project(team)
        push(there.repository(f"{team}/app"), TWO, "v1")
        push(here.repository(f"{team}/app"), ONE, "v1")
        fields = {"dest_registry": harbor, "filters": {"name": f"{team}/app"}}
        execution = here.carried_out(here.add_policy(**fields, override=False))
        assert "does not override: skipped" in here.told(execution["id"])
        assert digest_of_tag(there.repository(f"{team}/app"), "v1") == TWO.digest
        here.carried_out(here.add_policy(**fields))
        assert digest_of_tag(there.repository(f"{team}/app"), "v1") == ONE.digest

    def test_a_large_blob_in_chunks_no_faster_than_it_may(self, here: Desk, there: Desk, harbor: int, team: str) -> None:
        large = image("large", layers=1, layer_bytes=11_000_000)
        push(here.repository(f"{team}/large"), large, "v1")
        policy = here.add_policy(dest_registry=harbor, filters={"name": f"{team}/large"}, copy_by_chunk=True, speed=20_000)
        execution = here.carried_out(policy)
        check_pull(there.repository(f"{team}/large"), large, "v1")
        seconds = here.log_of(execution["id"], here.tasks(execution["id"])[0]["id"]).rpartition(" bytes in ")[2]
        assert float(seconds.split()[0]) >= 0.5

    def test_a_robot_that_may_push_to_the_project_is_enough(self, here: Desk, there: Desk, team: str) -> None:
        push(here.repository(f"{team}/app"), ONE, "v1")
        there.make_project(team)
        access = [{"resource": "repository", "action": action} for action in ("pull", "push")]
        body = {"name": "pusher", "level": "project", "duration": -1}
        body |= {"permissions": [{"kind": "project", "namespace": team, "access": access}]}
        robot: Any = there.ask("POST", "/robots", body).expect(201).json()
        registry = here.add_registry("harbor", f"http://{there.address}", user=robot["name"], secret=robot["secret"])
        here.carried_out(here.add_policy(dest_registry=registry, filters={"name": f"{team}/app"}))
        check_pull(there.repository(f"{team}/app"), ONE, "v1")

    def test_wrong_credentials_fail_at_once_and_say_so(self, here: Desk, plain: PlainRegistry, team: str) -> None:
        push(here.repository(f"{team}/app"), ONE, "v1")
        # A registry that is given none and wants some is healthy, as in Harbor.
        registry = here.add_registry("docker-registry", plain.url)
        execution = here.ended(here.start(here.add_policy(dest_registry=registry, filters={"name": f"{team}/app"})))
        assert (execution["status"], execution["failed"]) == ("Failed", 1)
        assert "wants credentials" in here.told(execution["id"])


class TestPulls:
    def test_from_another_cluster_everything_comes(self, here: Desk, there: Desk, harbor: int) -> None:
        team = f"source{next(_names)}"
        there.make_project(team, public=True)
        filled(there, team)
        push(there.repository(f"{team}/b/c"), TWO, "v9")
        policy = here.add_policy(src_registry=harbor, filters={"name": f"{team}/**"}, dest_namespace=f"{team}-here")
        execution = here.carried_out(policy)
        assert sorted(one["dst_resource"] for one in here.tasks(execution["id"])) == [
            f"{team}-here/app [3 item(s) in total]",
            f"{team}-here/c [1 item(s) in total]",
        ]
        copy = here.repository(f"{team}-here/app")
        for content, tag in ((ONE, "v1"), (TWO, "latest"), (MULTI, "v2")):
            check_all(copy, content, tag)
        assert referrers(copy, ONE) == [SIGNATURE.digest]
        assert here.get(f"/projects/{team}-here")["metadata"]["public"] == "true"
        rows = here.get(f"/projects/{team}-here/logs?q=operation%3Dcreate,resource_type%3Dartifact")
        assert {row["username"] for row in rows} == {"harbor-jobservice"}

    def test_from_a_docker_registry_tags_come_with_their_signatures(
        self, here: Desk, plain: PlainRegistry, docker: int
    ) -> None:
        team = f"plain{next(_names)}"
        source = plain.repository(f"{team}/app")
        push(source, ONE, "v1")
        push(source, TWO, "other")
        push_index(source, MULTI, "v2")
        cosigned = artifact("cosign")
        push(source, cosigned, f"{ONE.digest.replace(':', '-')}.sig")
        execution = here.carried_out(here.add_policy(src_registry=docker, filters={"name": f"{team}/**", "tag": "v*"}))
        copy = here.repository(f"{team}/app")
        check_all(copy, ONE, "v1")
        check_all(copy, MULTI, "v2")
        check_pull(copy, cosigned, f"{ONE.digest.replace(':', '-')}.sig")
        assert digest_of_tag(copy, "other") is None
        assert execution["total"] == 1

    def test_what_does_not_fit_into_the_quota_is_not_taken(self, here: Desk, there: Desk, harbor: int) -> None:
        team = f"full{next(_names)}"
        there.make_project(team)
        push(there.repository(f"{team}/app"), image("large", layer_bytes=200_000), "v1")
        here.ask("POST", "/projects", {"project_name": team, "storage_limit": 100_000}).expect(201)
        execution = here.ended(here.start(here.add_policy(src_registry=harbor, filters={"name": f"{team}/app"})))
        assert execution["status"] == "Failed"
        assert "exceed the configured upper limit" in here.told(execution["id"])
        assert digest_of_tag(here.repository(f"{team}/app"), "v1") is None

    def test_nothing_is_taken_while_the_cluster_is_read_only(self, here: Desk, there: Desk, harbor: int) -> None:
        team = f"held{next(_names)}"
        there.make_project(team)
        push(there.repository(f"{team}/app"), ONE, "v1")
        every_second = {"type": "scheduled", "trigger_settings": {"cron": "* * * * * *"}}
        policy = here.add_policy(src_registry=harbor, filters={"name": f"{team}/app"}, trigger=every_second)
        wait_for(lambda: any(one["status"] == "Succeed" for one in here.executions(policy)), "a scheduled execution")
        here.ask("PUT", "/configurations", {"read_only": True}).expect(200)
        try:
            push(there.repository(f"{team}/app"), TWO, "v2")
            wait_for(lambda: any(one["status"] == "Failed" for one in here.executions(policy)), "one that fails")
        finally:
            here.ask("PUT", "/configurations", {"read_only": False}).expect(200)
            here.change_policy(policy, **{**here.get(f"/replication/policies/{policy}"), "enabled": False})
        failed = next(one["id"] for one in here.executions(policy) if one["status"] == "Failed")
        assert "read only mode" in here.told(failed)
        assert digest_of_tag(here.repository(f"{team}/app"), "v1") == ONE.digest

    def test_nothing_is_picked_where_there_is_nothing(self, here: Desk, harbor: int) -> None:
        execution = here.carried_out(here.add_policy(src_registry=harbor, filters={"name": "nobody/**"}))
        assert execution["total"] == 0


class TestWebhooks:
    def test_the_end_of_a_task_is_told_in_harbors_words(self, here: Desk, there: Desk, harbor: int, team: str) -> None:
        push(here.repository(f"{team}/app"), ONE, "v1")
        push(here.repository(f"{team}/app"), TWO, "v2")
        policy = here.add_policy(dest_registry=harbor, filters={"name": f"{team}/**"}, description="to the others")
        with running_receiver() as receiver:
            body = {"name": "hook", "targets": [{"type": "http", "address": receiver.url}], "event_types": ["REPLICATION"]}
            number = here.get(f"/projects/{team}")["project_id"]
            here.ask("POST", f"/projects/{number}/webhook/policies", {**body, "enabled": True}).expect(201)
            execution = here.carried_out(policy)
            wait_for(lambda: receiver.deliveries, "the webhook")
            told = receiver.deliveries[0].body
        assert (told["type"], told["operator"], set(told["event_data"])) == ("REPLICATION", "MANUAL", {"replication"})
        replication = told["event_data"]["replication"]
        assert isinstance(replication.pop("execution_timestamp"), int)
        registry = here.get(f"/registries/{harbor}")["name"]
        assert replication == {
            "harbor_hostname": "127.0.0.1",
            "job_status": "Success",
            "description": "to the others",
            "policy_creator": "admin",
            "artifact_type": "artifact",
            "authentication_type": "basic",
            "override_mode": True,
            "trigger_type": "MANUAL",
            "src_resource": {"registry_type": "harbor", "endpoint": f"http://{here.address}", "namespace": team},
            "dest_resource": {
                "registry_name": registry,
                "registry_type": "harbor",
                "endpoint": f"http://{there.address}",
                "namespace": team,
            },
            "successful_artifact": [{"type": "artifact", "status": "Success", "name_tag": "app [2 item(s) in total]"}],
        }
        assert execution["total"] == 1

    def test_a_pull_that_fails_is_told_to_the_project_that_it_was_for(
        self, here: Desk, plain: PlainRegistry, team: str
    ) -> None:
        push(plain.repository(f"{team}/app"), ONE, "v1")
        registry = here.add_registry("docker-registry", plain.url, user=USER, secret=SECRET)
        policy = here.add_policy(src_registry=registry, filters={"name": f"{team}/app"})
        quota = here.get(f"/quotas?reference=project&reference_id={here.get(f'/projects/{team}')['project_id']}")[0]
        here.ask("PUT", f"/quotas/{quota['id']}", {"hard": {"storage": 1000}}).expect(200)
        with running_receiver() as receiver:
            body = {"name": "hook", "targets": [{"type": "http", "address": receiver.url}], "event_types": ["REPLICATION"]}
            number = here.get(f"/projects/{team}")["project_id"]
            here.ask("POST", f"/projects/{number}/webhook/policies", {**body, "enabled": True}).expect(201)
            assert here.ended(here.start(policy))["status"] == "Failed"
            wait_for(lambda: receiver.deliveries, "the webhook")
            replication = receiver.deliveries[0].body["event_data"]["replication"]
        assert replication["job_status"] == "Error"
        assert replication["src_resource"]["endpoint"] == plain.url
        assert [one["name_tag"] for one in replication["failed_artifact"]] == ["app [1 item(s) in total]"]


class TestEvents:
    def test_pushes_tags_and_deletions_follow(self, here: Desk, there: Desk, harbor: int, team: str) -> None:
        policy = here.add_policy(dest_registry=harbor, filters={"name": f"{team}/**", "tag": "v*"}, deletion=True, **EVENTS)
        source, copy = here.repository(f"{team}/app"), there.repository(f"{team}/app")
        push(source, ONE, "v1")
        push(source, TWO, "unpicked")
        wait_for(lambda: named(copy, "v1") == ONE.digest, "the pushed image")
        path = f"/projects/{team}/repositories/app/artifacts/v1/tags"
        here.ask("POST", path, {"name": "v1.1"}).expect(201)
        wait_for(lambda: named(copy, "v1.1") == ONE.digest, "the further tag")
        push(source, SIGNATURE, SIGNATURE.digest)
        wait_for(lambda: referrers(copy, ONE) == [SIGNATURE.digest], "the signature")
        here.ask("DELETE", f"{path}/v1.1").expect(200)
        wait_for(lambda: named(copy, "v1.1") is None, "the deletion of the tag")
        assert named(copy, "v1") == ONE.digest
        here.ask("DELETE", f"/projects/{team}/repositories/app/artifacts/v1").expect(200)
        wait_for(lambda: named(copy, "v1") is None, "the deletion of the image")
        assert named(copy, "unpicked") is None
        executions = here.executions(policy)
        assert {one["trigger"] for one in executions} == {"event_based"}
        assert len(executions) == 5
        operations = [here.tasks(one["id"])[0]["operation"] for one in executions]
        assert operations == ["deletion", "deletion", "copy", "copy", "copy"]

    def test_deletions_stay_where_the_policy_does_not_want_them(self, here: Desk, there: Desk, harbor: int, team: str) -> None:
        here.add_policy(dest_registry=harbor, filters={"name": f"{team}/**"}, **EVENTS)
        source, copy = here.repository(f"{team}/app"), there.repository(f"{team}/app")
        push(source, ONE, "v1")
        wait_for(lambda: named(copy, "v1") == ONE.digest, "the pushed image")
        here.ask("DELETE", f"/projects/{team}/repositories/app/artifacts/v1").expect(200)
        push(source, TWO, "v2")
        wait_for(lambda: named(copy, "v2") == TWO.digest, "what was pushed after the deletion")
        assert named(copy, "v1") == ONE.digest

    def test_what_an_event_began_waits_for_credentials_that_are_taken(
        self, here: Desk, plain: PlainRegistry, team: str
    ) -> None:
        registry = here.add_registry("docker-registry", plain.url)
        policy = here.add_policy(dest_registry=registry, filters={"name": f"{team}/**"}, **EVENTS)
        push(here.repository(f"{team}/app"), ONE, "v1")
        wait_for(lambda: here.executions(policy), "an execution")
        execution = here.executions(policy)[0]["id"]
        wait_for(lambda: "wants credentials" in here.told(execution), "a refusal")
        assert here.execution(execution)["status"] == "InProgress"
        changed = {"credential_type": "basic", "access_key": USER, "access_secret": SECRET}
        here.ask("PUT", f"/registries/{registry}", changed).expect(200)
        assert here.ended(execution)["status"] == "Succeed"
        check_pull(plain.repository(f"{team}/app"), ONE, "v1")

    def test_two_that_replicate_to_each_other_come_to_rest(self, here: Desk, there: Desk, harbor: int, team: str) -> None:
        back = there.add_registry("harbor", f"http://{here.address}", user=here.user, secret=here.password)
        wanted = {"filters": {"name": f"{team}/**"}, "deletion": True, **EVENTS}
        out, home = here.add_policy(dest_registry=harbor, **wanted), there.add_policy(dest_registry=back, **wanted)
        source, copy = here.repository(f"{team}/app"), there.repository(f"{team}/app")
        push(source, ONE, "v1")
        wait_for(lambda: there.executions(home), "the way back")
        wait_for(lambda: all(one["status"] == "Succeed" for one in there.executions(home)), "its end")
        assert "already: skipped" in there.told(there.executions(home)[0]["id"])
        here.ask("DELETE", f"/projects/{team}/repositories/app/artifacts/v1").expect(200)
        wait_for(lambda: named(copy, "v1") is None, "the deletion")
        wait_for(lambda: len(there.executions(home)) == 2, "the way back of the deletion")
        wait_for(lambda: all(one["status"] == "Succeed" for one in there.executions(home)), "its end")
        assert "nothing to delete" in there.told(there.executions(home)[0]["id"])
        assert len(here.executions(out)) == 2
