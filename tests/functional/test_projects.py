"""Projects and members at Harbor's paths: who sees them, who writes them, and what goes with them."""

from __future__ import annotations

import pytest

from tests.support.accounts import (
    PASSWORD,
    AccountsNode,
    add_member,
    make_project,
    make_user,
    names,
    push_image,
    robot_body,
    rows,
    site,
)
from twinhull.records.kinds import SETTING

__all__ = ["site"]


class TestProjects:
    async def test_project_that_was_made_is_shown_as_harbor_shows_it(self, site: AccountsNode) -> None:
        number = await make_project(site.admin, "team", public=True)
        shown = await site.admin.ok(200, "GET", "/projects/team")
        assert await site.admin.ok(200, "GET", f"/projects/{number}") == shown
        created = shown["creation_time"]
        allowlist = {"creation_time": created, "id": number, "items": [], "project_id": number, "update_time": created}
        assert shown == {
            "creation_time": created,
            "current_user_role_id": 1,
            "current_user_role_ids": [1],
            "cve_allowlist": allowlist,
            "metadata": {"public": "true"},
            "name": "team",
            "owner_id": 1,
            "owner_name": "admin",
            "project_id": number,
            "repo_count": 0,
            "update_time": created,
        }

    @pytest.mark.parametrize(
        ("body", "status", "message"),
        [
            ({"project_name": "library"}, 409, "The project named library already exists"),
            ({}, 400, "Project name  is illegal in length. (greater than 255 or less than 1)"),
            ({"project_name": "UPPER"}, 400, "project name is not in lower case or contains illegal characters"),
            ({"project_name": "../etc"}, 400, "project name is not in lower case or contains illegal characters"),
            ({"project_name": "a\nb"}, 400, "project name is not in lower case or contains illegal characters"),
            ({"project_name": "x", "storage_limit": -5}, 400, "bad request: invalid value for resource storage"),
        ],
    )
    async def test_project_is_refused_in_harbors_words(
        self, site: AccountsNode, body: dict[str, object], status: int, message: str
    ) -> None:
        reply = await site.admin("POST", "/projects", body)
        assert (reply.status, reply.json()["errors"][0]["message"]) == (status, message)

    @pytest.mark.parametrize(
        ("body", "content_type", "message"),
        [
            (b"{", "application/json", "validation failure list:\nparsing body failed"),
            (b'{"project_name": 5}', "application/json", "validation failure list:\nparsing body failed"),
            (b"\xff\xfe", "application/json", "validation failure list:\nparsing body failed"),
            (b"{}", "text/plain", 'unsupported media type "text/plain", only [application/json] are allowed'),
        ],
    )
    async def test_body_that_is_no_request_is_unprocessable(
        self, site: AccountsNode, body: bytes, content_type: str, message: str
    ) -> None:
        reply = await site.admin("POST", "/projects", body, content_type=content_type)
        assert (reply.status, reply.code) == (422, "UNPROCESSABLE_ENTITY")
        assert message in reply.json()["errors"][0]["message"]

    async def test_location_uses_the_name_where_it_is_asked_for(self, site: AccountsNode) -> None:
        reply = await site.admin("POST", "/projects", {"project_name": "team"}, x_resource_name_in_location="true")
        assert reply["location"] == "/api/v2.0/projects/team"

    async def test_numeric_name_is_an_id_unless_the_header_says_otherwise(self, site: AccountsNode) -> None:
        await make_project(site.admin, "77")
        assert (await site.admin("GET", "/projects/77")).status == 404
        assert (await site.admin.ok(200, "GET", "/projects/77", x_is_resource_name="true"))["name"] == "77"
        assert (await site.admin("GET", "/projects/1", x_is_resource_name="true")).status == 403

    async def test_project_that_is_not_there_is_refused_as_harbor_does(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        await make_project(site.admin, "secret")
        cases = [
            (site.admin, "/projects/nosuch", 403, "forbidden"),
            (site.admin, "/projects/99999", 404, "project 99999 not found"),
            (site.anonymous, "/projects/nosuch", 401, "unauthorized"),
            (site.anonymous, "/projects/99999", 401, "unauthorized"),
            (site.anonymous, "/projects/secret", 401, "unauthorized"),
            (site.user("alice", PASSWORD), "/projects/secret", 403, "forbidden"),
            (site.user("alice", PASSWORD), "/projects/nosuch", 403, "forbidden"),
        ]
        for api, path, status, message in cases:
            reply = await api("GET", path)
            assert (reply.status, reply.json()["errors"][0]["message"]) == (status, message)

    async def test_list_shows_each_what_is_theirs(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        own = await make_project(alice, "own")
        await make_project(site.admin, "secret")
        await make_project(site.admin, "open", public=True)
        assert await names(site.admin, "/projects") == ["library", "open", "own", "secret"]
        assert await names(alice, "/projects") == ["library", "open", "own"]
        assert await names(site.anonymous, "/projects") == ["library", "open"]
        assert await names(site.anonymous, "/projects?public=false") == []
        assert await names(site.admin, "/projects?name=pe") == ["open"]
        assert await names(site.admin, "/projects?owner=alice") == ["own"]
        reply = await site.admin("GET", "/projects?page=2&page_size=3&name=")
        assert [project["name"] for project in rows(reply)] == ["secret"]
        assert reply["x-total-count"] == "4"
        assert reply["link"] == '</api/v2.0/projects?name=&page=1&page_size=3>; rel="prev"'
        for query, wanted in (
            ("q=name%3Dlibrary", ["library"]),
            ("q=name%3D~IBRAR,public%3Dtrue", ["library"]),
            ("q=name%3Dlibrary,public%3Dfalse", []),
            ("sort=-name&page_size=1&q=name%3D~library", ["library"]),
        ):
            assert await names(site.admin, f"/projects?{query}") == wanted, query
        by_name = await names(site.admin, "/projects")
        assert await names(site.admin, "/projects?sort=-name") == by_name[::-1]
        # Harbor 2.2 had no `q` here, and passed over whatever came.
        for passed_over in ("q=name", "q=name%3D%5B", "q=nosuch%3D1"):
            assert await names(site.admin, f"/projects?{passed_over}") == by_name
        assert (await site.admin("GET", "/projects?page_size=101")).status == 422
        assert (await site.admin("GET", "/projects?page=x")).status == 422
        shown = await alice.ok(200, "GET", f"/projects/{own}")
        assert shown["current_user_role_id"] == 1
        assert shown["owner_name"] == "alice"

    async def test_head_says_whether_a_name_is_taken(self, site: AccountsNode) -> None:
        assert (await site.admin("HEAD", "/projects?project_name=library")).status == 200
        for query in ("", "?project_name="):
            assert (await site.admin("HEAD", f"/projects{query}")).status == 422
        missing = await site.admin("HEAD", "/projects?project_name=nosuch")
        assert (missing.status, missing.body) == (404, b"")

    async def test_metadata_is_changed_item_by_item(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        await site.admin.ok(200, "PUT", "/projects/team", {"metadata": {"auto_scan": "true", "unknown_key": "1"}})
        await site.admin.ok(200, "PUT", "/projects/team", {"metadata": {"public": "true"}})
        assert (await site.admin.ok(200, "GET", "/projects/team"))["metadata"] == {
            "auto_scan": "true",
            "public": "true",
        }
        assert (await site.anonymous("PUT", "/projects/team", {"metadata": {"public": "false"}})).status == 401

    async def test_project_with_repositories_is_not_deleted(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        assert await site.admin.ok(200, "GET", "/projects/team/_deletable") == {"deletable": True}
        await push_image(site.admin, "team/app")
        assert await site.admin.ok(200, "GET", "/projects/team/_deletable") == {
            "message": "the project contains repositories, can not be deleted"
        }
        reply = await site.admin("DELETE", "/projects/team")
        assert (reply.status, reply.json()) == (
            412,
            {
                "errors": [
                    {
                        "code": "PRECONDITION",
                        "message": "precondition failed: the project contains repositories, can not be deleted",
                    }
                ]
            },
        )
        assert (await site.admin.ok(200, "GET", "/projects/team"))["repo_count"] == 1

    async def test_level_that_writes_wait_for_is_set_for_a_project_and_must_be_one(self, site: AccountsNode) -> None:
        await site.admin.ok(201, "POST", "/projects", {"project_name": "team"})
        for level in ("full", "local", "metadata", ""):
            await site.admin.ok(200, "PUT", "/projects/team", {"metadata": {"durability": level}})
            assert (await site.admin.ok(200, "GET", "/projects/team"))["metadata"].get("durability", "") == level
            assert (await site.guard.facts_of("team")).durability.level == level
        assert (await site.admin("PUT", "/projects/team", {"metadata": {"durability": "best"}})).status == 400
        await site.admin.ok(200, "PUT", "/projects/team", {"metadata": {"on_peer_loss": "refuse"}})
        assert (await site.guard.facts_of("team")).durability.on_peer_loss == "refuse"
        assert (await site.admin("PUT", "/projects/team", {"metadata": {"on_peer_loss": "hope"}})).status == 400

    async def test_project_made_anew_has_none_of_the_old_ones_members_robots_and_metadata(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team", public=True)
        await site.admin.ok(200, "PUT", "/projects/team", {"metadata": {"auto_scan": "true"}})
        await make_user(site, "alice")
        await add_member(site, project, "alice", 1)
        robot = await site.admin.ok(201, "POST", "/robots", robot_body("ci", "team"))
        as_robot = site.user(robot["name"], robot["secret"])
        assert await as_robot.starts_upload("team/app") == 202
        await site.admin.ok(200, "DELETE", "/projects/team")
        assert await as_robot.starts_upload("team/app") == 401
        assert await site.user("alice", PASSWORD).starts_upload("team/app") == 401
        assert (await site.admin("GET", "/projects/team")).status == 403
        again = await make_project(site.admin, "team")
        assert again != project
        assert await site.user("alice", PASSWORD).starts_upload("team/app") == 401
        assert await as_robot.starts_upload("team/app") == 401
        assert (await site.admin("GET", f"/robots/{robot['id']}")).status == 404
        assert (await site.admin.ok(200, "GET", "/projects/team"))["metadata"] == {"public": "false"}
        assert [m["entity_name"] for m in await site.admin.ok(200, "GET", f"/projects/{again}/members")] == ["admin"]

    async def test_summary_shows_counts_to_those_who_may_see_them(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team", public=True)
        for name, role in (("dev", 2), ("limited", 5)):
            await make_user(site, name)
            await add_member(site, project, name, role)
        quota = {"hard": {"storage": -1}, "used": {"storage": 0}}
        assert await site.user("dev", PASSWORD).ok(200, "GET", "/projects/team/summary") == {
            "developer_count": 1,
            "limited_guest_count": 1,
            "project_admin_count": 1,
            "repo_count": 0,
            "quota": quota,
        }
        assert await site.user("limited", PASSWORD).ok(200, "GET", "/projects/team/summary") == {
            "repo_count": 0,
            "quota": quota,
        }
        assert await site.anonymous.ok(200, "GET", "/projects/team/summary") == {"repo_count": 0}

    async def test_only_administrators_make_projects_when_the_cluster_is_set_so(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        await make_project(site.user("alice", PASSWORD), "first")
        with site.store.write() as transaction:
            transaction.create(SETTING, "project_creation_restriction", {"value": "adminonly"})
        assert (await site.user("alice", PASSWORD)("POST", "/projects", {"project_name": "own"})).status == 403
        await make_project(site.admin, "own")


class TestMembers:
    async def test_member_is_added_shown_changed_and_removed(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        user = await make_user(site, "alice")
        member = await add_member(site, project, "alice", 2)
        path = f"/projects/{project}/members/{member}"
        expected = {
            "id": member,
            "project_id": project,
            "entity_name": "alice",
            "role_name": "developer",
            "role_id": 2,
            "entity_id": user,
            "entity_type": "u",
        }
        assert await site.admin.ok(200, "GET", path) == expected
        await site.admin.ok(200, "PUT", path, {"role_id": 4})
        assert (await site.admin.ok(200, "GET", path))["role_name"] == "maintainer"
        reply = await site.admin("GET", f"/projects/{project}/members?page_size=100")
        assert [entry["entity_name"] for entry in rows(reply)] == ["admin", "alice"]
        assert reply["x-total-count"] == "2"
        assert len(await site.admin.ok(200, "GET", f"/projects/{project}/members?entityname=lic")) == 1
        await site.admin.ok(200, "DELETE", path)
        assert (await site.admin("GET", path)).status == 404
        assert (await site.admin("DELETE", path)).status == 404

    async def test_member_is_added_by_id(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        user = await make_user(site, "alice")
        await site.admin.create(f"/projects/{project}/members", {"role_id": 3, "member_user": {"user_id": user}})

    @pytest.mark.parametrize(
        ("body", "status", "message"),
        [
            ({"role_id": 2, "member_user": {"username": "nosuch"}}, 400, "user nosuch not found"),
            ({"role_id": 9, "member_user": {"username": "alice"}}, 400, "Invalid role ID, role ID 9"),
            ({"role_id": 2}, 400, "neither a user nor a group is given"),
            (
                {"role_id": 2, "member_user": {"username": "admin"}},
                409,
                "Failed to add project member, already exist group or project member, groupMemberID:0",
            ),
            ({"role_id": 2, "member_group": {"ldap_group_dn": "cn=g1"}}, 404, "user group cn=g1 not found"),
        ],
    )
    async def test_member_is_refused_in_harbors_words(
        self, site: AccountsNode, body: dict[str, object], status: int, message: str
    ) -> None:
        project = await make_project(site.admin, "team")
        await make_user(site, "alice")
        reply = await site.admin("POST", f"/projects/{project}/members", body)
        assert (reply.status, reply.json()["errors"][0]["message"]) == (status, message)

    async def test_members_are_listed_to_members_and_written_by_project_administrators(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team", public=True)
        await make_user(site, "alice")
        await make_user(site, "bob")
        alice = site.user("alice", PASSWORD)
        path = f"/projects/{project}/members"
        refused = await alice("GET", path)
        assert (refused.status, refused.json()["errors"][0]["message"]) == (403, "alice")
        member = await add_member(site, project, "alice", 4)
        await alice.ok(200, "GET", path)
        body = {"role_id": 2, "member_user": {"username": "bob"}}
        assert (await alice("POST", path, body)).status == 403
        await site.admin.ok(200, "PUT", f"{path}/{member}", {"role_id": 1})
        await alice.create(path, body)
        assert len(rows(await site.admin("GET", "/projects/team/members"))) == 3
        assert (await site.admin("GET", "/projects/nosuch/members")).status == 404
        assert (await alice("GET", "/projects/nosuch/members")).status == 403
        assert (await site.anonymous("GET", "/projects/team/members")).status == 401
        assert (await site.admin("GET", "/projects/99999/members")).status == 404
        assert (await site.anonymous("GET", path)).status == 401
        assert (await site.admin("PUT", f"{path}/{member}", {"role_id": 77})).status == 400
