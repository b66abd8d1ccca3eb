"""Robot accounts at Harbor's paths, and what they may do on the data plane."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.accounts import (
    PASSWORD,
    WEAK,
    AccountsNode,
    Api,
    add_member,
    make_project,
    make_user,
    names,
    push_image,
    robot_body,
    site,
)
from twinhull.kit.clock import SystemClock
from twinhull.records.kinds import ROBOT

__all__ = ["site"]


class TestRobots:
    async def test_robot_secret_is_shown_once_and_works_on_the_data_plane(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        made = await site.admin.ok(201, "POST", "/robots", robot_body("ci", "team"))
        assert made["name"] == "robot$team+ci"
        assert len(made["secret"]) == 32
        assert made["expires_at"] == -1
        shown = await site.admin.ok(200, "GET", f"/robots/{made['id']}")
        assert sorted(shown) == [
            "creation_time", "description", "disable", "duration", "editable", "expires_at", "id", "level", "name",
            "permissions", "update_time",
        ]  # fmt: skip
        assert shown["permissions"] == robot_body("ci", "team")["permissions"]
        robot = site.user(made["name"], made["secret"])
        assert (await robot("GET", "/v2/")).status == 200
        assert await robot.starts_upload("team/app") == 202
        assert await robot.starts_upload("library/app") == 401
        assert (await robot("GET", "/users/current")).status == 403
        assert (await robot("POST", "/projects", {"project_name": "x"})).status == 403
        assert await names(robot, "/projects") == ["library", "team"]
        assert (await site.user(made["name"], "wrong")("GET", "/v2/")).status == 401

    async def test_system_robot_reaches_all_projects(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        made = await site.admin.ok(201, "POST", "/robots", robot_body("sys", "*", level="system"))
        assert made["name"] == "robot$sys"
        robot = site.user(made["name"], made["secret"])
        assert await robot.starts_upload("team/app") == 202
        assert await robot.starts_upload("library/app") == 202
        assert await robot.starts_upload("nosuch/app") == 401

    async def test_system_robot_has_no_rights_in_a_project_made_anew_under_a_name_that_it_was_given(
        self, site: AccountsNode
    ) -> None:
        project = await make_project(site.admin, "team")
        other = [{**permission, "namespace": "library"} for permission in robot_body("x", "library")["permissions"]]
        body = robot_body("sys", "team", level="system")
        body["permissions"] += other
        made = await site.admin.ok(201, "POST", "/robots", body)
        robot = site.user(made["name"], made["secret"])
        assert await robot.starts_upload("team/app") == 202
        assert await names(robot, "/projects") == ["library", "team"]
        await site.admin.ok(200, "DELETE", f"/projects/{project}")
        assert await robot.starts_upload("team/app") == 401
        await make_project(site.admin, "team")
        assert await robot.starts_upload("team/app") == 401
        assert await robot.starts_upload("library/app") == 202
        assert await names(robot, "/projects") == ["library"]
        # Whoever writes back what is shown does not give it the rights again.
        shown = await site.admin.ok(200, "GET", f"/robots/{made['id']}")
        assert shown["permissions"] == other
        await site.admin.ok(200, "PUT", f"/robots/{made['id']}", {**shown, "description": "changed"})
        assert await robot.starts_upload("team/app") == 401
        # Whoever means the new one does.
        await site.admin.ok(200, "PUT", f"/robots/{made['id']}", {**shown, "permissions": body["permissions"]})
        assert await robot.starts_upload("team/app") == 202

    async def test_list_of_an_older_release_means_no_project_that_was_made_after_it(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        made = await site.admin.ok(201, "POST", "/robots", robot_body("sys", "team", level="system"))
        robot = site.user(made["name"], made["secret"])
        with site.store.write() as transaction:
            transaction.put(ROBOT, "sys", {"permissions": robot_body("sys", "team", level="system")["permissions"]})
        assert await robot.starts_upload("team/app") == 202
        await site.admin.ok(200, "DELETE", f"/projects/{project}")
        await make_project(site.admin, "team")
        with site.store.write() as transaction:
            transaction.put(ROBOT, "sys", {"updated_ms": transaction.now_ms() - 3_600_000})
        assert await robot.starts_upload("team/app") == 401

    @pytest.mark.parametrize(
        ("body", "status", "message"),
        [
            (robot_body("ci", "team"), 409, "already exists"),
            (robot_body("Bad Name", "team"), 400, "robot name is not in lower case or contains illegal characters"),
            (robot_body("x", "team", level="bogus"), 400, "bad request error level input: bogus"),
            (robot_body("x", "*"), 403, "forbidden"),
            (robot_body("x", "nosuch"), 403, "forbidden"),
            (robot_body("x", "nosuch", level="system"), 404, "project nosuch not found"),
            (robot_body("x", "team", permissions=[]), 400, "bad request empty permission"),
            (
                robot_body("x", "team", permissions=[{"kind": "project", "namespace": "team", "access": []}]),
                400,
                "bad request empty access",
            ),
            (robot_body("x", "team", duration=-2), 400, "bad request error duration input"),
        ],
    )
    async def test_robot_is_refused_in_harbors_words(
        self, site: AccountsNode, body: dict[str, object], status: int, message: str
    ) -> None:
        await make_project(site.admin, "team")
        await site.admin.ok(201, "POST", "/robots", robot_body("ci", "team"))
        reply = await site.admin("POST", "/robots", body)
        assert reply.status == status
        assert message in reply.json()["errors"][0]["message"]

    async def test_lists_are_of_the_system_or_of_a_project(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        for name in ("one", "two"):
            await site.admin.ok(201, "POST", "/robots", robot_body(name, "team"))
        await site.admin.ok(201, "POST", "/robots", robot_body("sys", "*", level="system"))
        assert await names(site.admin, "/robots") == ["robot$sys"]
        of_project = f"/robots?q=Level%3Dproject%2CProjectID%3D{project}"
        assert sorted(await names(site.admin, of_project)) == ["robot$team+one", "robot$team+two"]
        assert await names(site.admin, f"{of_project}%2Cname%3D~w") == ["robot$team+two"]
        assert await names(site.admin, f"{of_project}%2Cname%3Done") == ["robot$team+one"]
        assert await names(site.admin, "/robots?q=Level%3Dproject%2CProjectID%3D99999") == []
        reply = await site.admin("GET", "/robots?q=Level%3Dproject")
        assert (reply.status, reply.json()["errors"][0]["message"]) == (
            400,
            "must with project ID when to query project robots",
        )
        assert (await site.admin("GET", "/robots?q=bogus")).status == 400
        assert (await site.anonymous("GET", "/robots")).status == 401

    async def test_project_administrator_manages_the_projects_robots_and_no_others(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        await make_user(site, "alice")
        member = await add_member(site, project, "alice", 3)
        alice = site.user("alice", PASSWORD)
        assert (await alice("POST", "/robots", robot_body("ci", "team"))).status == 403
        await site.admin.ok(200, "PUT", f"/projects/{project}/members/{member}", {"role_id": 1})
        made = await alice.ok(201, "POST", "/robots", robot_body("ci", "team"))
        await alice.ok(200, "GET", f"/robots?q=Level%3Dproject%2CProjectID%3D{project}")
        refused = await alice("GET", "/robots")
        assert (refused.status, refused.json()["errors"][0]["message"]) == (403, "alice")
        assert (await alice("POST", "/robots", robot_body("sys", "*", level="system"))).status == 403
        wider = {**robot_body("ci", "library"), "name": made["name"]}
        assert (await alice("PUT", f"/robots/{made['id']}", wider)).status == 400

    async def test_disabled_robot_is_refused_at_once_and_comes_back(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        made = await site.admin.ok(201, "POST", "/robots", robot_body("ci", "team"))
        robot = site.user(made["name"], made["secret"])
        bearer = Api(site, f"Bearer {await robot.token('repository:team/app:pull,push')}")
        assert await bearer.starts_upload("team/app") == 202
        shown = await site.admin.ok(200, "GET", f"/robots/{made['id']}")
        await site.admin.ok(200, "PUT", f"/robots/{made['id']}", {**shown, "disable": True})
        assert await robot.starts_upload("team/app") == 401
        assert await bearer.starts_upload("team/app") == 401
        await site.admin.ok(200, "PUT", f"/robots/{made['id']}", {**shown, "disable": False})
        assert await bearer.starts_upload("team/app") == 202
        await site.admin.ok(200, "DELETE", f"/robots/{made['id']}")
        assert await bearer.starts_upload("team/app") == 401
        assert (await site.admin("DELETE", f"/robots/{made['id']}")).status == 404

    async def test_new_secret_ends_the_old_one_and_tokens_that_it_got(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        made = await site.admin.ok(201, "POST", "/robots", robot_body("ci", "team"))
        robot = site.user(made["name"], made["secret"])
        bearer = Api(site, f"Bearer {await robot.token('repository:team/app:pull,push')}")
        fresh = await site.admin.ok(200, "PATCH", f"/robots/{made['id']}", {"secret": ""})
        assert await robot.starts_upload("team/app") == 401
        assert await bearer.starts_upload("team/app") == 401
        assert await site.user(made["name"], fresh["secret"]).starts_upload("team/app") == 202
        weak = await site.admin("PATCH", f"/robots/{made['id']}", {"secret": "weak"})
        assert (weak.status, weak.json()["errors"][0]["message"]) == (400, f"the secret {WEAK}")
        assert await site.admin.ok(200, "PATCH", f"/robots/{made['id']}", {"secret": "Chosen123"}) == {}
        assert await site.user(made["name"], "Chosen123").starts_upload("team/app") == 202

    async def test_robot_whose_time_is_over_is_refused(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        made = await site.admin.ok(201, "POST", "/robots", robot_body("ci", "team", duration=7))
        robot = site.user(made["name"], made["secret"])
        assert await robot.starts_upload("team/app") == 202
        now_s = SystemClock().unix_ms() // 1000
        assert 7 * 86_400 - 60 < made["expires_at"] - now_s <= 7 * 86_400
        with site.store.write() as transaction:
            transaction.put(ROBOT, "team+ci", {"expires_at_s": now_s - 1})
        assert await robot.starts_upload("team/app") == 401

    async def test_robot_cannot_give_another_more_than_it_has(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        pairs = (("robot", "create"), ("robot", "update"), ("repository", "pull"))
        access = [{"resource": resource, "action": action} for resource, action in pairs]
        permissions = [{"kind": "project", "namespace": "team", "access": access}]
        made = await site.admin.ok(201, "POST", "/robots", robot_body("maker", "team", permissions=permissions))
        maker = site.user(made["name"], made["secret"])
        assert (await maker("POST", "/robots", robot_body("wide", "team", "pull", "push"))).status == 403
        assert (await maker("POST", "/robots", robot_body("wide", "library", "pull"))).status == 403
        await maker.ok(201, "POST", "/robots", robot_body("narrow", "team", "pull"))
        wider = robot_body("maker", "team", "pull", "push")
        assert (await maker("PUT", f"/robots/{made['id']}", wider)).status == 403

    async def test_name_and_level_stay_as_they_are(self, site: AccountsNode) -> None:
        made = await site.admin.ok(201, "POST", "/robots", robot_body("sys", "*", level="system"))
        body = robot_body(made["name"], "*", level="system")
        await site.admin.ok(200, "PUT", f"/robots/{made['id']}", {**body, "description": "changed"})
        assert (await site.admin.ok(200, "GET", f"/robots/{made['id']}"))["description"] == "changed"
        assert (await site.admin("PUT", f"/robots/{made['id']}", {**body, "name": "robot$other"})).status == 400
        assert (await site.admin("PUT", f"/robots/{made['id']}", {**body, "level": "project"})).status == 403


class TestRightsInTheSystem:
    async def test_robot_does_in_the_system_what_it_was_given_and_no_more(self, site: AccountsNode) -> None:
        made = await site.admin.ok(
            201, "POST", "/robots", _system_robot("ops", "label: create", "quota: list", "project: create", "catalog: read")
        )
        robot = site.user(made["name"], made["secret"])
        assert (await robot("POST", "/labels", {"name": "l", "scope": "g"})).status == 201
        assert (await robot("GET", "/quotas")).status == 200
        assert (await robot("POST", "/projects", {"project_name": "p"})).status == 201
        project = await site.admin.ok(200, "GET", "/projects/p")
        assert project["owner_name"] == "admin"
        await push_image(site.admin, "p/app")
        assert (await robot("GET", "/v2/_catalog")).json() == {"repositories": ["p/app"]}
        for method, path in (
            ("GET", "/configurations"),
            ("PUT", f"/quotas/{(await site.admin.ok(200, 'GET', '/quotas'))[0]['id']}"),
            ("POST", "/users"),
            ("POST", "/robots"),
            ("GET", "/users"),
        ):
            assert (await robot(method, path, _system_robot("more", "label: create"))).status in (401, 403), path
        assert (await robot("GET", "/projects/p/members")).status == 403

    async def test_robot_lists_the_catalog_only_if_its_list_says_so(self, site: AccountsNode) -> None:
        await push_image(site.admin, "library/app")
        made = await site.admin.ok(201, "POST", "/robots", robot_body("sys", "*", level="system"))
        refused = await site.user(made["name"], made["secret"])("GET", "/v2/_catalog")
        assert (refused.status, refused.json()["errors"][0]["code"]) == (401, "UNAUTHORIZED")
        made = await site.admin.ok(201, "POST", "/robots", _system_robot("lists", "catalog: read"))
        assert (await site.user(made["name"], made["secret"])("GET", "/v2/_catalog")).json() == {
            "repositories": ["library/app"]
        }

    async def test_no_robot_makes_administrators(self, site: AccountsNode) -> None:
        made = await site.admin.ok(201, "POST", "/robots", _system_robot("ops", "user: update", "robot: create"))
        robot = site.user(made["name"], made["secret"])
        number = await make_user(site, "alice")
        assert (await robot("PUT", f"/users/{number}/sysadmin", {"sysadmin_flag": True})).status == 403
        assert (await robot("PUT", f"/users/{number}/password", {"new_password": "Passw0rd2"})).status == 403
        assert (await robot("POST", "/robots", _system_robot("more", "user: update"))).status == 403

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"access": [{"resource": "bogus", "action": "read"}]}, "bad request permission: bogus:read"),
            (
                {"namespace": "p"},
                "bad request error kind input: project, or for a robot of the system: system, with the namespace /",
            ),
        ],
    )
    async def test_unknown_right_is_refused(self, site: AccountsNode, changed: dict[str, object], message: str) -> None:
        body = _system_robot("ops", "label: create")
        body["permissions"] = [{**body["permissions"][0], **changed}]
        reply = await site.admin("POST", "/robots", body)
        assert (reply.status, reply.json()["errors"][0]["message"]) == (400, message)


def _system_robot(name: str, *grants: str) -> dict[str, Any]:
    access = [
        {"resource": resource, "action": action.strip()} for resource, _, action in (one.partition(":") for one in grants)
    ]
    permissions = [{"kind": "system", "namespace": "/", "access": access}]
    return {"name": name, "level": "system", "duration": -1, "description": "", "permissions": permissions}
