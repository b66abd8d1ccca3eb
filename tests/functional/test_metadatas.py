"""A project's metadata item by item, and project robots of the older kind, at Harbor's paths."""

from __future__ import annotations

import pytest

from tests.support.accounts import PASSWORD, AccountsNode, add_member, make_project, make_user, names, robot_body, rows, site
from twinhull.catalog.projects import OTHER_ITEMS_MAX, RETENTION_KEY, set_shown

__all__ = ["site"]


class TestMetadatas:
    async def test_items_are_added_changed_and_removed_one_by_one(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "p")
        path = f"/projects/{project}/metadatas"
        assert await site.admin.ok(200, "GET", f"{path}/") == {"public": "false"}
        assert (await site.admin("POST", f"{path}/", {"auto_scan": "TRUE"})).status == 201
        assert await site.admin.ok(200, "GET", f"{path}/auto_scan") == {"auto_scan": "true"}
        await site.admin.ok(200, "PUT", f"{path}/auto_scan", {"auto_scan": "false"})
        assert await site.admin.ok(200, "GET", path) == {"auto_scan": "false", "public": "false"}
        await site.admin.ok(200, "DELETE", f"{path}/auto_scan")
        assert await site.admin.ok(200, "GET", "/projects/p/metadatas") == {"public": "false"}

    @pytest.mark.parametrize(
        ("asked", "body", "status", "message"),
        [
            ("POST ", {"public": "true"}, 409, "conflict metadata"),
            ("POST ", {}, 400, "invalid request: there must be exactly one item"),
            ("POST ", {"auto_scan": "true", "prevent_vul": "true"}, 400, "invalid request: there must be exactly one item"),
            ("POST ", {"auto_scan": "maybe"}, 400, "invalid value: maybe"),
            ("POST ", {"auto_scan": True}, 400, "Invalid json request"),
            ("POST ", {"severity": "bogus"}, 400, "invalid value for severity: bogus"),
            ("POST ", {"severity": "unknown"}, 400, "invalid value for severity: unknown"),
            ("PUT public", {"auto_scan": "true"}, 400, "must contain public"),
            ("PUT nosuch", {"nosuch": "true"}, 404, "metadata nosuch of project 2 not found"),
            ("GET nosuch", None, 404, "metadata nosuch of project 2 not found"),
            ("DELETE nosuch", None, 404, "metadata nosuch of project 2 not found"),
        ],
    )
    async def test_item_is_refused_in_harbors_words(
        self, site: AccountsNode, asked: str, body: object, status: int, message: str
    ) -> None:
        project = await make_project(site.admin, "p")
        assert project == 2
        method, _, item = asked.partition(" ")
        reply = await site.admin(method, f"/projects/{project}/metadatas/{item}", body)
        assert (reply.status, reply.json()["errors"][0]["message"]) == (status, message)

    async def test_items_that_nobody_knows_are_kept_where_they_come_one_by_one(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "p")
        path = f"/projects/{project}/metadatas"
        assert (await site.admin("POST", f"{path}/", {"team": "red"})).status == 201
        assert await site.admin.ok(200, "GET", f"{path}/") == {"public": "false", "team": "red"}
        assert (await site.admin("POST", f"{path}/", {"team": "blue"})).status == 409
        assert (await site.admin("PUT", f"{path}/team", {"team": "blue"})).status == 404
        assert await site.admin.ok(200, "GET", f"{path}/team") == {"team": "red"}
        [found] = (await site.admin.ok(200, "GET", "/search?q=p"))["project"]
        assert found["metadata"] == {"public": "false", "team": "red"}
        # Where a project is read or written as a whole there are only items that the description names.
        assert (await site.admin.ok(200, "GET", "/projects/p"))["metadata"] == {"public": "false"}
        await site.admin.ok(200, "PUT", "/projects/p", {"metadata": {"team": "green", "other": "1"}})
        assert await site.admin.ok(200, "GET", path) == {"public": "false", "team": "red"}
        await site.admin.ok(200, "DELETE", f"{path}/team")
        assert await site.admin.ok(200, "GET", path) == {"public": "false"}

    async def test_items_of_an_earlier_project_are_not_in_one_of_the_same_name(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "p")
        assert (await site.admin("POST", f"/projects/{project}/metadatas/", {"team": "red"})).status == 201
        await site.admin.ok(200, "DELETE", "/projects/p")
        again = await make_project(site.admin, "p")
        assert await site.admin.ok(200, "GET", f"/projects/{again}/metadatas/") == {"public": "false"}

    async def test_so_many_items_that_nobody_knows_are_kept(self, site: AccountsNode) -> None:
        path = f"/projects/{await make_project(site.admin, 'p')}/metadatas/"
        for number in range(OTHER_ITEMS_MAX):
            assert (await site.admin("POST", path, {f"item{number}": "1"})).status == 201
        assert (await site.admin("POST", path, {"one-more": "1"})).status == 400
        await site.admin.ok(200, "DELETE", f"{path}item1")
        assert (await site.admin("POST", path, {"one-more": "1"})).status == 201
        assert (await site.admin("POST", path, {"auto_scan": "true"})).status == 201

    @pytest.mark.parametrize("sent", [{"k" * 256: "1"}, {"k": "v" * 256}, {"": "1"}, {"k": "a\0b"}, {"retention_id": "7"}])
    async def test_item_that_cannot_be_kept_is_refused(self, site: AccountsNode, sent: dict[str, str]) -> None:
        project = await make_project(site.admin, "p")
        assert (await site.admin("POST", f"/projects/{project}/metadatas/", sent)).status == 400

    async def test_item_that_another_resource_owns_is_not_removed_or_changed(self, site: AccountsNode) -> None:
        path = f"/projects/{await make_project(site.admin, 'p')}/metadatas"
        with site.store.write() as transaction:
            set_shown(transaction, "p", RETENTION_KEY, "7")
        assert (await site.admin("DELETE", f"{path}/{RETENTION_KEY}")).status == 400
        assert (await site.admin("PUT", f"{path}/{RETENTION_KEY}", {RETENTION_KEY: "8"})).status == 404
        assert await site.admin.ok(200, "GET", f"{path}/{RETENTION_KEY}") == {RETENTION_KEY: "7"}

    @pytest.mark.parametrize(("sent", "kept"), [("Critical", "critical"), ("negligible", "none"), ("NONE", "none")])
    async def test_severity_is_kept_in_the_words_of_its_scale(self, site: AccountsNode, sent: str, kept: str) -> None:
        path = f"/projects/{await make_project(site.admin, 'p')}/metadatas/"
        assert (await site.admin("POST", path, {"severity": sent})).status == 201
        assert await site.admin.ok(200, "GET", f"{path}severity") == {"severity": kept}

    async def test_only_those_with_the_right_may(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        project = await make_project(site.admin, "p")
        path = f"/projects/{project}/metadatas/"
        assert (await alice("GET", path)).status == 403
        for api, status in ((site.admin, 404), (alice, 403), (site.anonymous, 401)):
            assert (await api("GET", "/projects/99999/metadatas/")).status == status
        member = await add_member(site, project, "alice", 2)
        assert (await alice("PUT", f"{path}public", {"public": "true"})).status == 403
        await site.admin.ok(200, "PUT", f"/projects/{project}/members/{member}", {"role_id": 4})
        await alice.ok(200, "PUT", f"{path}public", {"public": "true"})
        assert (await site.anonymous("GET", path)).status == 401
        assert (await site.admin("GET", "/projects/99999/metadatas/")).status == 404


class TestAllowlist:
    async def test_project_keeps_a_list_of_its_own(self, site: AccountsNode) -> None:
        await make_project(site.admin, "p")
        assert (await site.admin.ok(200, "GET", "/projects/p"))["cve_allowlist"]["items"] == []
        items = [{"cve_id": "CVE-2020-1"}]
        await site.admin.ok(200, "PUT", "/projects/p", {"cve_allowlist": {"items": items, "expires_at": 1_999_999_999}})
        (shown,) = rows(await site.admin("GET", "/projects?name=p"))
        assert (shown["cve_allowlist"]["items"], shown["cve_allowlist"]["expires_at"]) == (items, 1_999_999_999)
        twice = {"cve_allowlist": {"items": [*items, *items]}}
        assert (await site.admin("PUT", "/projects/p", twice)).status == 400
        await site.admin.ok(200, "PUT", "/projects/p", {"metadata": {"public": "true"}})
        assert (await site.admin.ok(200, "GET", "/projects/p"))["cve_allowlist"]["items"] == items


class TestRobotsOfTheOlderKind:
    async def test_robot_is_made_listed_disabled_and_deleted(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "p")
        body = {
            "name": "ci",
            "description": "old",
            "expires_at": -1,
            "access": [{"resource": f"/project/{project}/repository", "action": action} for action in ("pull", "push")],
        }
        reply = await site.admin("POST", "/projects/p/robots", body)
        made = reply.json()
        assert (reply.status, made["name"]) == (201, "robot$p+ci")
        assert reply["location"] == f"/api/v2.0/projects/p/robots/{made['id']}"
        robot = site.user(made["name"], made["secret"])
        assert await robot.starts_upload("p/app") == 202
        assert (await site.admin("POST", f"/projects/{project}/robots", body)).status == 409
        path = f"/projects/{project}/robots/{made['id']}"
        shown = await site.admin.ok(200, "GET", path)
        assert shown["permissions"][0]["access"][0] == {"resource": "repository", "action": "pull"}
        assert await names(site.admin, "/projects/p/robots") == ["robot$p+ci"]
        await site.admin.ok(200, "PUT", path, {"disable": True})
        assert await robot.starts_upload("p/app") == 401
        assert (await site.admin.ok(200, "GET", path))["description"] == "old"
        await site.admin.ok(200, "DELETE", path)
        gone = await site.admin("GET", path)
        assert gone.status == 404
        assert gone.json()["errors"][0]["message"].endswith(f"project id: {project} and id: {made['id']}")

    async def test_robot_ends_when_that_is_said(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "p")
        access = [{"resource": f"/project/{project}/repository", "action": "pull"}]
        body = {"name": "ci", "expires_at": 4_000_000_000, "access": access}
        made = (await site.admin("POST", "/projects/p/robots", body)).json()
        shown = await site.admin.ok(200, "GET", f"/projects/p/robots/{made['id']}")
        assert shown["expires_at"] == 4_000_000_000

    @pytest.mark.parametrize("resource", ["/project/999/repository", "repository", "/system/label"])
    async def test_robot_gets_nothing_outside_of_its_project(self, site: AccountsNode, resource: str) -> None:
        await make_project(site.admin, "p")
        body = {"name": "ci", "access": [{"resource": resource, "action": "pull"}]}
        assert (await site.admin("POST", "/projects/p/robots", body)).status == 400

    async def test_robots_of_other_projects_are_not_found(self, site: AccountsNode) -> None:
        await make_project(site.admin, "p")
        await make_project(site.admin, "q")
        made = (await site.admin("POST", "/robots", robot_body("r", "q"))).json()
        for method in ("GET", "PUT", "DELETE"):
            assert (await site.admin(method, f"/projects/p/robots/{made['id']}", {})).status == 404


class TestPermissions:
    async def test_what_robots_may_be_given_is_told_to_those_who_make_them(self, site: AccountsNode) -> None:
        shown = await site.admin.ok(200, "GET", "/permissions")
        assert {"resource": "repository", "action": "push"} in shown["project"]
        assert {"resource": "registry", "action": "create"} in shown["system"]
        await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        assert (await alice("GET", "/permissions")).status == 403
        assert (await site.anonymous("GET", "/permissions")).status == 401
        project = await make_project(site.admin, "p")
        await add_member(site, project, "alice", 1)
        assert (await alice.ok(200, "GET", "/permissions"))["system"] == []

    async def test_project_administrator_gives_a_robot_no_more_than_there_is(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        project = await make_project(site.admin, "p")
        await add_member(site, project, "alice", 1)
        good = robot_body("good", "p", "pull", "push")
        assert (await alice("POST", "/robots", good)).status == 201
        bad = {**robot_body("bad", "p"), "permissions": [_everything("p")]}
        assert (await alice("POST", "/robots", bad)).status == 403
        assert (await alice("POST", "/robots", robot_body("sys", "*", level="system"))).status == 403
        assert len(rows(await alice("GET", f"/robots?q=Level=project,ProjectID={project}"))) == 1


def _everything(project: str) -> dict[str, object]:
    return {"kind": "project", "namespace": project, "access": [{"resource": "*", "action": "*"}]}
