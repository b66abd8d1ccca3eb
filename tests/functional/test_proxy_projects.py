"""Projects that stand for another registry's content: kept and shown, and closed to pushes."""

from __future__ import annotations

from tests.support.accounts import AccountsNode, make_project, push_image, site
from twinhull.catalog.documents import create_document
from twinhull.records.kinds import REGISTRY

__all__ = ["site"]


def make_registry(site: AccountsNode) -> int:
    with site.store.write() as transaction:
        fields = {"type": "docker-registry", "url": "http://127.0.0.1:1", "insecure": True}
        return create_document(transaction, REGISTRY, fields, name="hub")


class TestProxyProjects:
    async def test_project_shows_the_registry_that_it_stands_for(self, site: AccountsNode) -> None:
        registry = make_registry(site)
        number = await site.admin.create("/projects", {"project_name": "proxy", "registry_id": registry})
        assert (await site.admin.ok(200, "GET", f"/projects/{number}"))["registry_id"] == registry
        assert "registry_id" not in await site.admin.ok(200, "GET", "/projects/library")
        missing = await site.admin("POST", "/projects", {"project_name": "other", "registry_id": 99999})
        assert (missing.status, missing.json()["errors"][0]["message"]) == (404, "registry 99999 not found")
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
