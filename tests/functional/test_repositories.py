"""Repositories at Harbor's paths: who sees them, how lists are cut, what deletion takes along."""

from __future__ import annotations

from tests.support.accounts import PASSWORD, AccountsNode, add_member, make_project, make_user, names, rows, site
from tests.support.stored import push
from twinhull.records.kinds import REPOSITORY

__all__ = ["site"]

PATH = "/projects/team/repositories"


class TestRepositories:
    async def test_repository_is_shown_as_harbor_shows_it(self, site: AccountsNode) -> None:
        number = await make_project(site.admin, "team")
        await push(site.admin, "team/app", "v1")
        await push(site.admin, "team/app", "v2")
        shown = await site.admin.ok(200, "GET", f"{PATH}/app")
        assert shown == {
            "artifact_count": 2,
            "creation_time": shown["creation_time"],
            "id": 1,
            "name": "team/app",
            "project_id": number,
            "pull_count": 0,
            "update_time": shown["update_time"],
        }
        assert await site.admin.ok(200, "GET", PATH) == [shown]

    async def test_name_with_slashes_is_understood_escaped_once_or_twice_and_not_plain(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        await push(site.admin, "team/a/b/artifacts/c", "v1")
        for escaped in ("a%2Fb%2Fartifacts%2Fc", "a%252Fb%252Fartifacts%252Fc", "a%2fb%252fartifacts%2Fc"):
            assert (await site.admin.ok(200, "GET", f"{PATH}/{escaped}"))["name"] == "team/a/b/artifacts/c"
            artifact = await site.admin.ok(200, "GET", f"{PATH}/{escaped}/artifacts/v1")
            href = artifact["addition_links"]["build_history"]["href"]
            assert href.startswith("/api/v2.0/projects/team/repositories/a%252Fb%252Fartifacts%252Fc/artifacts/sha256:")
        assert (await site.admin("GET", f"{PATH}/a/b")).status == 404

    async def test_lists_are_filtered_sorted_and_cut(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        for name in ("one", "two", "three"):
            await push(site.admin, f"team/{name}", "v1")
        assert await names(site.admin, PATH) == ["team/three", "team/two", "team/one"]
        assert await names(site.admin, f"{PATH}?sort=name") == ["team/one", "team/three", "team/two"]
        assert await names(site.admin, f"{PATH}?sort=-name") == ["team/two", "team/three", "team/one"]
        assert await names(site.admin, f"{PATH}?q=name%3Dteam%2Fone") == ["team/one"]
        assert await names(site.admin, f"{PATH}?q=name%3D~T") == ["team/three", "team/two", "team/one"]
        assert await names(site.admin, f"{PATH}?q=name%3D~am%2Ft") == ["team/three", "team/two"]
        reply = await site.admin("GET", f"{PATH}?page=2&page_size=2")
        assert [row["name"] for row in rows(reply)] == ["team/one"]
        assert (reply["x-total-count"], reply["link"]) == ("3", f'</api/v2.0{PATH}?page=1&page_size=2>; rel="prev"')
        assert (await site.admin("GET", f"{PATH}?q=bogus")).status == 400
        assert (await site.admin("GET", f"{PATH}?page_size=101")).status == 422

    async def test_everybody_sees_what_is_theirs(self, site: AccountsNode) -> None:
        for name in ("own", "other"):
            await make_project(site.admin, name)
        await make_project(site.admin, "open", public=True)
        await make_user(site, "alice")
        await add_member(site, (await site.admin.ok(200, "GET", "/projects/own"))["project_id"], "alice", 3)
        for name in ("own", "other", "open"):
            await push(site.admin, f"{name}/app", "v1")
        alice = site.user("alice", PASSWORD)
        assert await names(site.admin, "/repositories?sort=name") == ["open/app", "other/app", "own/app"]
        assert await names(alice, "/repositories?sort=name") == ["open/app", "own/app"]
        assert await names(site.anonymous, "/repositories") == ["open/app"]
        for api, project, status in (
            (alice, "own", 200),
            (alice, "other", 403),
            (alice, "nosuch", 403),
            (site.admin, "nosuch", 403),
            (site.anonymous, "open", 200),
            (site.anonymous, "own", 401),
            (site.anonymous, "nosuch", 401),
        ):
            assert (await api("GET", f"/projects/{project}/repositories")).status == status

    async def test_description_is_kept_and_only_that(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        await push(site.admin, "team/app", "v1")
        await site.admin.ok(200, "PUT", f"{PATH}/app", {"description": "what it is", "name": "other", "pull_count": 7})
        shown = await site.admin.ok(200, "GET", f"{PATH}/app")
        assert (shown["description"], shown["name"], shown["pull_count"]) == ("what it is", "team/app", 0)
        assert (await site.admin("PUT", f"{PATH}/nosuch", {"description": "x"})).status == 404
        assert (await site.admin("PUT", f"{PATH}/app", b"{")).status == 422

    async def test_repository_that_lives_through_its_artifacts_alone_can_be_described(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        await push(site.admin, "team/app", "v1")
        with site.store.write() as transaction:
            transaction.delete(REPOSITORY, "team/app")
        before = await site.admin.ok(200, "GET", f"{PATH}/app")
        await site.admin.ok(200, "PUT", f"{PATH}/app", {"description": "still here"})
        after = await site.admin.ok(200, "GET", f"{PATH}/app")
        assert (after["id"], after["creation_time"], after["description"]) == (
            before["id"],
            before["creation_time"],
            "still here",
        )

    async def test_deletion_takes_everything_and_leaves_the_neighbours(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        for name in ("app", "app2"):
            for tag in ("v1", "v2"):
                await push(site.admin, f"team/{name}", tag)
        await site.admin.ok(200, "DELETE", f"{PATH}/app")
        assert await names(site.admin, PATH) == ["team/app2"]
        assert (await site.admin("GET", "/v2/team/app/manifests/v1")).status == 404
        assert (await site.admin("GET", "/v2/team/app2/manifests/v1")).status == 200
        reply = await site.admin("DELETE", f"{PATH}/app")
        assert (reply.status, reply.json()["errors"][0]["message"]) == (404, "repository team/app not found")

    async def test_only_those_with_the_right_role_delete(self, site: AccountsNode) -> None:
        number = await make_project(site.admin, "team", public=True)
        await push(site.admin, "team/app", "v1")
        for name, role in (("dev", 2), ("guest", 3), ("maintainer", 4)):
            await make_user(site, name)
            await add_member(site, number, name, role)
        for name, status in (("dev", 403), ("guest", 403), ("maintainer", 200)):
            assert (await site.user(name, PASSWORD)("DELETE", f"{PATH}/app")).status == status
        assert (await site.anonymous("DELETE", f"{PATH}/app")).status == 401

    async def test_every_path_of_a_repository_is_answered_for_what_is_there_and_what_is_not(self, site: AccountsNode) -> None:
        await push(site.admin, "library/app", "v1")
        api = site.admin
        shown = await api.ok(200, "GET", "/projects/library/repositories/app")
        await api.ok(200, "PUT", "/projects/library/repositories/app", {"description": "d"})
        assert (await api.ok(200, "GET", "/projects/library/repositories/app")) | {
            "update_time": shown["update_time"]
        } == shown | {"description": "d"}
        assert await api.ok(200, "GET", "/projects/library/repositories/app/artifacts/v1/accessories") == []
        assert len(await api.ok(200, "GET", "/projects/library/repositories/app/artifacts/v1/tags")) == 1
        await api.ok(404, "GET", "/projects/library/repositories/app/artifacts/v1/additions/vulnerabilities")
        await api.ok(404, "POST", "/projects/library/repositories/app/artifacts/v1/labels", {"id": 9})
        await api.ok(404, "DELETE", "/projects/library/repositories/app/artifacts/v1/labels/9")
        await api.ok(404, "DELETE", "/projects/library/repositories/app/artifacts/v1/tags/v9")
        await api.ok(200, "DELETE", "/projects/library/repositories/app/artifacts/v1/tags/v1")
        await api.ok(404, "GET", "/projects/library/repositories/app/artifacts/v1/tags")
