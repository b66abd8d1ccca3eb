"""Projects that stand for another registry's content, in the management API. Pulls through them are in tests/cluster."""

from __future__ import annotations

import pytest

from tests.support.accounts import PASSWORD, AccountsNode, make_project, make_user, push_image, site
from tests.support.foreign import SECRET, USER, foreign_server
from twinhull.catalog.documents import create_document
from twinhull.records.kinds import REGISTRY

__all__ = ["site"]


def make_registry(site: AccountsNode, kind: str = "docker-registry") -> int:
    with site.store.write() as transaction:
        fields = {"type": kind, "url": "http://127.0.0.1:1", "insecure": True}
        return create_document(transaction, REGISTRY, fields, name="hub")


class TestProxyProjects:
    async def test_project_shows_the_registry_that_it_stands_for(self, site: AccountsNode) -> None:
        registry = make_registry(site)
        number = await site.admin.create("/projects", {"project_name": "proxy", "registry_id": registry})
        assert (await site.admin.ok(200, "GET", f"/projects/{number}"))["registry_id"] == registry
        shown = (await site.admin.ok(200, "GET", "/projects/proxy/summary"))["registry"]
        assert (shown["id"], shown["name"], shown["type"]) == (registry, "hub", "docker-registry")
        assert "credential" not in shown
        assert "registry" not in await site.admin.ok(200, "GET", "/projects/library/summary")
        assert "registry_id" not in await site.admin.ok(200, "GET", "/projects/library")
        await site.admin.ok(200, "DELETE", f"/projects/{number}")
        await make_project(site.admin, "proxy")
        assert "registry_id" not in await site.admin.ok(200, "GET", "/projects/proxy")
        await push_image(site.admin, "proxy/app")

    async def test_nothing_is_pushed_or_copied_into_it(self, site: AccountsNode) -> None:
        await site.admin.create("/projects", {"project_name": "proxy", "registry_id": make_registry(site)})
        await push_image(site.admin, "library/app")
        begun = await site.admin("POST", "/v2/proxy/app/blobs/uploads/")
        assert (begun.status, begun.json()["errors"][0]["code"]) == (403, "DENIED")
        assert begun.json()["errors"][0]["message"] == "denied: can not push artifact to a proxy project: proxy"
        manifest = (await site.admin("GET", "/v2/library/app/manifests/v1")).body
        put = await site.admin(
            "PUT", "/v2/proxy/app/manifests/v1", manifest, content_type="application/vnd.oci.image.manifest.v1+json"
        )
        assert put.status == 403
        copied = await site.admin("POST", "/projects/proxy/repositories/app/artifacts?from=library/app:v1")
        assert copied.status == 403

    async def test_what_nobody_pulls_any_more_is_not_kept_there(self, site: AccountsNode) -> None:
        number = await site.admin.create("/projects", {"project_name": "proxy", "registry_id": make_registry(site)})
        shown = await site.admin.ok(200, "GET", "/projects/proxy")
        policy = await site.admin.ok(200, "GET", f"/retentions/{shown['metadata']['retention_id']}")
        assert policy["scope"] == {"level": "project", "ref": number}
        [rule] = policy["rules"]
        assert (rule["template"], rule["params"]) == ("nDaysSinceLastPull", {"nDaysSinceLastPull": 7})
        # It can be sent back as it is.
        await site.admin.ok(200, "PUT", f"/retentions/{policy['id']}", policy)

    @pytest.mark.parametrize(
        ("number", "status", "message"),
        [
            (99999, 404, "registry 99999 not found"),
            (0, 400, "0 is invalid value of registry_id, it should be greater than 0"),
        ],
    )
    async def test_registry_must_be_there(self, site: AccountsNode, number: int, status: int, message: str) -> None:
        refused = await site.admin.ok(status, "POST", "/projects", {"project_name": "proxy", "registry_id": number})
        assert refused["errors"][0]["message"] == message

    async def test_registry_must_be_of_a_type_that_can_be_stood_for(self, site: AccountsNode) -> None:
        body = {"project_name": "proxy", "registry_id": make_registry(site, "helm-hub")}
        refused = await site.admin.ok(400, "POST", "/projects", body)
        assert refused["errors"][0]["message"] == "unsupported registry type helm-hub"

    async def test_administrators_alone_make_it(self, site: AccountsNode) -> None:
        registry = make_registry(site)
        await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        refused = await alice.ok(403, "POST", "/projects", {"project_name": "proxy", "registry_id": registry})
        assert refused["errors"][0]["message"] == "Only system admin can create proxy cache project"

    async def test_registry_stays_while_a_project_stands_for_it_and_may_be_renamed(self, site: AccountsNode) -> None:
        async with foreign_server() as other:
            credential = {"type": "basic", "access_key": USER, "access_secret": SECRET}
            body = {"name": "hub", "type": "harbor", "url": other.url, "insecure": True, "credential": credential}
            registry = await site.admin.create("/registries", body)
            await site.admin.create("/projects", {"project_name": "proxy", "registry_id": registry})
            await site.admin.ok(200, "PUT", f"/registries/{registry}", {"name": "renamed"})
            assert (await site.admin.ok(200, "GET", "/projects/proxy"))["registry_id"] == registry
            refused = await site.admin.ok(412, "DELETE", f"/registries/{registry}")
            assert refused["errors"][0]["code"] == "PRECONDITION_FAILED"
            await site.admin.ok(200, "DELETE", "/projects/proxy")
            await site.admin.ok(200, "DELETE", f"/registries/{registry}")
