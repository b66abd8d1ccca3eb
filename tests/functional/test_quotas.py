"""How much projects may store and do store: shown, set, and held when something is pushed."""

from __future__ import annotations

import hashlib
import secrets

import pytest

from tests.support.accounts import PASSWORD, AccountsNode, Api, make_project, make_user, push_image, rows, site
from tests.support.composed import Reply
from twinhull.catalog.quotas import shown_size
from twinhull.metadata.projections.project import rebuild_projections
from twinhull.metadata.usage import used_by

__all__ = ["site"]

KIB = 1024


async def upload(api: Api, repository: str, content: bytes) -> Reply:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = f"/v2/{repository}/blobs/uploads/?digest={digest}"
    return await api("POST", path, content, content_type="application/octet-stream")


def used(site: AccountsNode, project: str) -> int:
    with site.store.read() as connection:
        return used_by(connection, [project]).get(project, 0)


async def quota_id(site: AccountsNode, project: int) -> int:
    (found,) = rows(await site.admin("GET", f"/quotas?reference=project&reference_id={project}"))
    assert found["ref"]["id"] == project
    return int(found["id"])


class TestUsage:
    async def test_bytes_count_once_in_a_project_and_again_in_another(self, site: AccountsNode) -> None:
        for name in ("p", "q"):
            await make_project(site.admin, name)
        content = secrets.token_bytes(5 * KIB)
        for repository in ("p/a", "p/b", "p/a", "q/a"):
            assert (await upload(site.admin, repository, content)).status == 201
        assert [used(site, "p"), used(site, "q")] == [5 * KIB, 5 * KIB]
        assert (await upload(site.admin, "p/a", b"more")).status == 201
        assert used(site, "p") == 5 * KIB + 4
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        for repository, left in (("p/a", 5 * KIB + 4), ("p/b", 4)):
            assert (await site.admin("DELETE", f"/v2/{repository}/blobs/{digest}")).status == 202
            assert used(site, "p") == left

    async def test_manifests_count_too_and_sums_are_the_same_when_made_anew(self, site: AccountsNode) -> None:
        await make_project(site.admin, "p")
        await push_image(site.admin, "p/a")
        before = used(site, "p")
        assert before > 2
        await push_image(site.admin, "p/b")
        assert used(site, "p") == before
        with site.store.write() as transaction:
            rebuild_projections(transaction.connection)
        assert used(site, "p") == before
        summary = await site.admin.ok(200, "GET", "/projects/p/summary")
        assert summary["quota"] == {"hard": {"storage": -1}, "used": {"storage": before}}

    async def test_copied_artifact_counts_in_its_new_project_with_all_that_it_names(self, site: AccountsNode) -> None:
        await make_project(site.admin, "p")
        await make_project(site.admin, "q")
        await push_image(site.admin, "p/a")
        assert used(site, "p") > 2
        copied = await site.admin("POST", "/projects/q/repositories/b/artifacts?from=p/a:v1")
        assert copied.status == 201, copied
        assert used(site, "q") == used(site, "p")
        with site.store.write() as transaction:
            rebuild_projections(transaction.connection)
        assert used(site, "q") == used(site, "p")
        assert (await site.admin("DELETE", "/projects/q/repositories/b/artifacts/v1")).status == 200
        assert used(site, "q") == 0
        number = await quota_id(site, (await site.admin.ok(200, "GET", "/projects/q"))["project_id"])
        await site.admin.ok(200, "PUT", f"/quotas/{number}", {"hard": {"storage": 1}})
        assert (await site.admin("POST", "/projects/q/repositories/b/artifacts?from=p/a:v1")).status == 403


class TestLimits:
    async def test_push_beyond_the_limit_is_refused_in_harbors_words(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "p")
        number = await quota_id(site, project)
        small, large = secrets.token_bytes(2 * KIB), secrets.token_bytes(9 * KIB)
        await site.admin.ok(200, "PUT", f"/quotas/{number}", {"hard": {"storage": 10 * KIB}})
        assert (await upload(site.admin, "p/a", small)).status == 201
        refused = await upload(site.admin, "p/a", large)
        assert (refused.status, refused.json()["errors"][0]["code"]) == (403, "DENIED")
        assert refused.json()["errors"][0]["message"] == (
            "adding 9.0 KiB of storage resource, which when updated to current usage of 2.0 KiB will exceed the configured"
            " upper limit of 10.0 KiB."
        )
        assert used(site, "p") == 2 * KIB
        # What is in the project already costs nothing, in another repository too.
        await site.admin.ok(200, "PUT", f"/quotas/{number}", {"hard": {"storage": 1}})
        assert (await upload(site.admin, "p/b", small)).status == 201
        assert (await upload(site.admin, "p/a", b"x")).status == 403
        await site.admin.ok(200, "PUT", f"/quotas/{number}", {"hard": {"storage": -1}})
        assert (await upload(site.admin, "p/a", large)).status == 201

    async def test_mount_and_manifest_are_held_to_the_limit(self, site: AccountsNode) -> None:
        await make_project(site.admin, "p", public=True)
        await site.admin.create("/projects", {"project_name": "full", "storage_limit": 1})
        content = secrets.token_bytes(2 * KIB)
        assert (await upload(site.admin, "p/a", content)).status == 201
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        mounted = await site.admin("POST", f"/v2/full/a/blobs/uploads/?mount={digest}&from=p/a")
        assert (mounted.status, mounted.json()["errors"][0]["code"]) == (403, "DENIED")
        assert used(site, "full") == 0

    async def test_new_projects_get_the_common_limit_unless_they_are_given_one(self, site: AccountsNode) -> None:
        await site.admin.ok(200, "PUT", "/configurations", {"storage_per_project": 7 * KIB})
        await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        for api, name, limit, hard in (
            (site.admin, "a", None, 7 * KIB),
            (site.admin, "b", 0, 7 * KIB),
            (site.admin, "c", 9, 9),
            (site.admin, "d", -1, -1),
            (alice, "e", 9, 7 * KIB),
        ):
            project = await api.create("/projects", {"project_name": name, "storage_limit": limit})
            (found,) = rows(await site.admin("GET", f"/quotas?reference_id={project}"))
            assert (name, found["hard"]) == (name, {"storage": hard})
        # As in Harbor: a limit is changed at /quotas alone.
        await site.admin.ok(200, "PUT", "/projects/c", {"storage_limit": 12})
        assert (await site.admin.ok(200, "GET", "/projects/c/summary"))["quota"]["hard"] == {"storage": 9}

    async def test_limits_do_not_hold_while_they_are_switched_off(self, site: AccountsNode) -> None:
        await site.admin.create("/projects", {"project_name": "p", "storage_limit": 1})
        assert (await upload(site.admin, "p/a", b"xx")).status == 403
        await site.admin.ok(200, "PUT", "/configurations", {"quota_per_project_enable": False})
        assert (await upload(site.admin, "p/a", b"xx")).status == 201

    async def test_project_made_anew_has_a_limit_of_its_own(self, site: AccountsNode) -> None:
        await site.admin.create("/projects", {"project_name": "p", "storage_limit": 1})
        await site.admin.ok(200, "DELETE", "/projects/p")
        await make_project(site.admin, "p")
        assert (await upload(site.admin, "p/a", b"xx")).status == 201
        assert len([one for one in rows(await site.admin("GET", "/quotas")) if one["ref"]["name"] == "p"]) == 1

    @pytest.mark.parametrize(
        ("hard", "message"),
        [
            ({"storage": -2}, "invalid value for resource storage"),
            ({"storage": 0}, "invalid value for resource storage"),
            ({"storage": True}, "invalid value for resource storage"),
            ({"storage": "5"}, "invalid value for resource storage"),
            ({"count": 5}, "resource count not support"),
            ({}, "resource storage not found"),
        ],
    )
    async def test_limit_is_refused_in_harbors_words(self, site: AccountsNode, hard: dict[str, object], message: str) -> None:
        number = await quota_id(site, await make_project(site.admin, "p"))
        reply = await site.admin("PUT", f"/quotas/{number}", {"hard": hard})
        assert (reply.status, reply.json()["errors"][0]["message"]) == (400, message)


class TestList:
    async def test_quotas_are_sorted_as_asked_and_newest_first_else(self, site: AccountsNode) -> None:
        for name, limit, size in (("a", 3 * KIB, 1), ("b", 9 * KIB, 2), ("c", -1, 3)):
            await site.admin.create("/projects", {"project_name": name, "storage_limit": limit})
            assert (await upload(site.admin, f"{name}/x", b"x" * size)).status == 201

        async def order(query: str) -> str:
            return "".join(one["ref"]["name"][0] for one in rows(await site.admin("GET", f"/quotas?{query}")))

        assert await order("") == "cbal"
        assert await order("sort=used.storage") == "labc"
        assert await order("sort=-hard.storage") == "bacl"
        assert await order("sort=-used.storage&page=2&page_size=2") == "al"
        assert await order("page=2&page_size=3") == "l"
        assert await order("reference_id=99999") == ""

    async def test_only_administrators_see_or_set_them(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        number = await quota_id(site, await make_project(site.admin, "p"))
        for method, path in (("GET", "/quotas"), ("GET", f"/quotas/{number}"), ("PUT", f"/quotas/{number}")):
            assert (await alice(method, path, {"hard": {"storage": 1}})).status == 403
            assert (await site.anonymous(method, path, {"hard": {"storage": 1}})).status == 401
        shown = await site.admin.ok(200, "GET", f"/quotas/{number}")
        assert (shown["hard"], shown["used"], shown["ref"]) == ({"storage": -1}, {"storage": 0}, None)
        for method in ("GET", "PUT"):
            assert (await site.admin(method, "/quotas/99999", {"hard": {"storage": 1}})).status == 404
        # There are quotas of projects alone.
        assert await site.admin.ok(200, "GET", "/quotas?reference=user") == []


@pytest.mark.parametrize(
    ("size", "shown"), [(318, "318 B"), (1_200_000, "1.1 MiB"), (3_145_728, "3.0 MiB"), (1024, "1.0 KiB"), (2**60, "1.0 EiB")]
)
def test_sizes_are_worded_as_in_harbor(size: int, shown: str) -> None:
    assert shown_size(size) == shown


async def test_slash_at_the_end_of_a_path_says_nothing(site: AccountsNode) -> None:
    # The Terraform provider looks for quotas like that.
    project = await make_project(site.admin, "p")
    listed = await site.admin.ok(200, "GET", "/quotas/?page=1&page_size=100")
    assert project in {one["ref"]["id"] for one in listed}
    number = await quota_id(site, project)
    assert (await site.admin.ok(200, "GET", f"/quotas/{number}/"))["id"] == number
    assert (await site.admin("GET", "/")).status == 404
