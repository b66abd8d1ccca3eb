"""Artifacts at Harbor's paths: what is shown of them, how lists are filtered, what goes with them, copies."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.support.accounts import PASSWORD, AccountsNode, add_member, make_project, make_user, rows, site
from tests.support.stored import OCI_CONFIG, OCI_IMAGE, OCI_INDEX, Part, push, push_index, subject
from twinhull.records.kinds import MANIFEST, content_key

__all__ = ["site"]

APP: Final = "/projects/library/repositories/app"
LIST: Final = f"{APP}/artifacts"
IMAGE_ICON: Final = "sha256:0048162a053eef4d4ce3fe7518615bef084403614f8bca43b40ae2e762e11e06"
COSIGN_LAYER: Final = "application/vnd.dev.cosign.simplesigning.v1+json"


async def digests(site: AccountsNode, query: str = "") -> list[str]:
    return [row["digest"] for row in rows(await site.admin("GET", f"{LIST}{query}"))]


async def tag_names(site: AccountsNode, reference: str) -> list[str]:
    return [row["name"] for row in rows(await site.admin("GET", f"{LIST}/{reference}/tags"))]


class TestArtifacts:
    async def test_image_is_shown_as_harbor_shows_it(self, site: AccountsNode) -> None:
        config = {"architecture": "arm64", "os": "linux", "created": "2026-01-01T00:00:00Z", "config": {"Cmd": ["/x"]}}
        digest = await push(site.admin, "library/app", "v1", config=config, layers=[Part(content=b"abc")])
        shown = await site.admin.ok(200, "GET", f"{LIST}/v1")
        (tag,) = shown.pop("tags")
        manifest = await site.admin("GET", f"/v2/library/app/manifests/{digest}", accept=OCI_IMAGE)
        blobs = [manifest.json()["config"]["size"], 3]
        assert shown == {
            "accessories": None,
            "addition_links": {
                "build_history": {"absolute": False, "href": f"/api/v2.0{LIST}/{digest}/additions/build_history"}
            },
            "artifact_type": OCI_CONFIG,
            "digest": digest,
            "extra_attrs": {**config, "author": ""},
            "icon": IMAGE_ICON,
            "id": 1,
            "labels": None,
            "manifest_media_type": OCI_IMAGE,
            "media_type": OCI_CONFIG,
            "project_id": 1,
            "pull_time": "0001-01-01T00:00:00.000Z",
            "push_time": shown["push_time"],
            "references": None,
            "repository_id": 1,
            "repository_name": "library/app",
            "size": len(manifest.body) + sum(blobs),
            "type": "IMAGE",
        }
        assert tag == {
            "artifact_id": 1,
            "id": 1,
            "immutable": False,
            "name": "v1",
            "pull_time": "0001-01-01T00:00:00.000Z",
            "push_time": tag["push_time"],
            "repository_id": 1,
            "signed": False,
        }
        assert await site.admin.ok(200, "GET", f"{LIST}/{digest}") == {**shown, "tags": [tag]}
        assert await site.admin.ok(200, "GET", LIST) == [{**shown, "tags": [tag]}]
        assert await site.admin.ok(200, "GET", f"{LIST}?with_tag=false") == [{**shown, "tags": None}]

    async def test_artifact_that_is_not_there_is_refused_in_harbors_words(self, site: AccountsNode) -> None:
        await push(site.admin, "library/app", "v1")
        for reference, shown in (("nosuch", ":nosuch"), (f"sha256:{'0' * 64}", f"@sha256:{'0' * 64}"), ("a%00b", ":a\0b")):
            reply = await site.admin("GET", f"{LIST}/{reference}")
            assert (reply.status, reply.code) == (404, "NOT_FOUND")
            assert reply.json()["errors"][0]["message"] == f"artifact library/app{shown} not found"
        assert (await site.admin("GET", "/projects/library/repositories/nosuch/artifacts/v1")).status == 404
        assert await site.admin.ok(200, "GET", "/projects/library/repositories/nosuch/artifacts") == []

    async def test_lists_are_filtered_and_sorted(self, site: AccountsNode) -> None:
        image = await push(site.admin, "library/app", "v1")
        chart = await push(site.admin, "library/app", "c1", config_type="application/vnd.cncf.helm.config.v1+json")
        bare = await push(site.admin, "library/app", config={"n": 3}, layers=[Part(content=b"x" * 5000)])
        everything = [bare, chart, image]
        for query, found in (
            ("", everything),
            ("q=tags%3D*", [chart, image]),
            ("q=tags%3Dnil", [bare]),
            ("q=tags%3Dv1", [image]),
            ("q=tags%3D~1", [chart, image]),
            ("q=tags%3D~nosuch", []),
            ("q=type%3DCHART", [chart]),
            ("q=type%3D{CHART IMAGE}".replace(" ", "%20"), everything),
            (f"q=media_type%3D{OCI_CONFIG.replace('+', '%2B')}", [bare, image]),
            ("q=media_type%3Dx", []),
            (f"q=digest%3D{image}", [image]),
            ("q=size%3D[4000~]", [bare]),
            ("q=push_time%3D[2020-01-01~2021-01-01]", []),
            ("q=nosuch%3D1", everything),
            ("sort=push_time", everything[::-1]),
            ("sort=-size", [bare, *([chart, image])]),
            ("page_size=1&page=2", [chart]),
        ):
            got = await digests(site, f"?{query}")
            assert sorted(got) == sorted(found) if "size" in query and "sort" in query else got == found, query
        assert (await site.admin("GET", f"{LIST}?q=tags%3D(a%20b)")).status == 400
        assert (await site.admin("GET", f"{LIST}?q=size%3Dx")).status == 400

    async def test_total_counts_what_is_listed_and_no_more(self, site: AccountsNode) -> None:
        child = await push(site.admin, "library/app")
        await push_index(site.admin, "library/app", "idx", {child: {}})
        await push(site.admin, "library/app", "v1")
        reply = await site.admin("GET", f"{LIST}?page_size=1")
        assert reply["x-total-count"] == "2"
        assert (await site.admin.ok(200, "GET", APP))["artifact_count"] == 2
        assert len(await digests(site, "?q=base%3D*")) == 3

    async def test_index_shows_what_it_lists(self, site: AccountsNode) -> None:
        arm = await push(site.admin, "library/app", config={"architecture": "arm64"})
        amd = await push(site.admin, "library/app", config={"architecture": "amd64"})
        index = await push_index(
            site.admin,
            "library/app",
            "idx",
            {
                arm: {"platform": {"architecture": "arm64", "os": "linux", "variant": "v8"}, "annotations": {"a": "b"}},
                amd: {"platform": {"architecture": "amd64", "os": "linux", "os.features": ["f"]}},
            },
        )
        shown = await site.admin.ok(200, "GET", f"{LIST}/idx")
        assert (shown["digest"], shown["type"], shown["media_type"]) == (index, "IMAGE", OCI_INDEX)
        assert "extra_attrs" not in shown
        assert "addition_links" not in shown
        first = {"OsFeatures": None, "architecture": "arm64", "os": "linux", "variant": "v8"}
        second = {"OsFeatures": ["f"], "architecture": "amd64", "os": "linux"}
        assert shown["references"] == [
            {
                "child_digest": arm,
                "child_id": 1,
                "parent_id": 3,
                "platform": first,
                "urls": None,
                "annotations": {"a": "b"},
            },
            {"child_digest": amd, "child_id": 2, "parent_id": 3, "platform": second, "urls": None},
        ]
        children = [await site.admin.ok(200, "GET", f"{LIST}/{digest}") for digest in (arm, amd)]
        assert shown["size"] > sum(child["size"] for child in children)

    async def test_user_defined_artifact_gets_type_attributes_and_icon(self, site: AccountsNode) -> None:
        icon = Part(content=b"png", media_type="image/png", annotations={"io.goharbor.artifact.v1alpha1.icon": ""})
        await push(
            site.admin,
            "library/app",
            "m1",
            config={"name": "net", "git": 1},
            config_type="application/vnd.caicloud.model.config.v1alpha1+json",
            layers=[icon],
            annotations={"made": "here"},
        )
        shown = await site.admin.ok(200, "GET", f"{LIST}/m1")
        assert (shown["type"], shown["extra_attrs"], shown["annotations"]) == (
            "MODEL",
            {"name": "net", "git": 1},
            {"made": "here"},
        )
        assert shown["icon"] == icon.descriptor()["digest"]

    async def test_attributes_that_no_record_has_are_read_from_the_configuration(self, site: AccountsNode) -> None:
        config = {"architecture": "arm64", "os": "linux"}
        digest = await push(site.admin, "library/app", "v1", config=config)
        with site.store.write() as transaction:
            transaction.put(MANIFEST, content_key("library/app", digest), {"attributes": ""})
        for _ in range(2):
            shown = await site.admin.ok(200, "GET", f"{LIST}/v1")
            assert shown["extra_attrs"]["architecture"] == "arm64"
            assert (await site.admin.ok(200, "GET", LIST))[0]["extra_attrs"] == shown["extra_attrs"]
        # Who pushes it once more lets the record have them.
        await push(site.admin, "library/app", "v1", config=config)
        with site.store.write() as transaction:
            values = transaction.values(MANIFEST, content_key("library/app", digest))
        assert values is not None
        assert "arm64" in str(values["attributes"])

    async def test_artifacts_of_a_project_are_listed_over_all_its_repositories(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        for repository in ("team/a", "team/b", "library/c"):
            for tag in ("v1", "v2"):
                await push(site.admin, repository, tag, config={"of": repository + tag})
        shown = await site.admin.ok(200, "GET", "/projects/team/artifacts")
        assert [(row["repository_name"], row["tags"][0]["name"]) for row in shown] == [
            ("team/b", "v2"),
            ("team/b", "v1"),
            ("team/a", "v2"),
            ("team/a", "v1"),
        ]
        latest = await site.admin.ok(200, "GET", "/projects/team/artifacts?latest_in_repository=true")
        assert [row["tags"][0]["name"] for row in latest] == ["v2", "v2"]
        assert (await site.anonymous("GET", "/projects/team/artifacts")).status == 401


class TestAccessories:
    async def test_what_belongs_to_an_image_is_shown_with_it_and_not_beside_it(self, site: AccountsNode) -> None:
        image = await push(site.admin, "library/app", "v1")
        sbom = await push(
            site.admin, "library/app", config={"s": 1}, artifactType="application/spdx+json", subject=subject(image)
        )
        signature = await push(
            site.admin,
            "library/app",
            f"{image.replace(':', '-')}.sig",
            layers=[Part(content=b"sig", media_type=COSIGN_LAYER)],
        )
        assert await digests(site) == [image]
        shown = (await site.admin.ok(200, "GET", f"{LIST}/v1?with_accessory=true"))["accessories"]
        assert [(row["digest"], row["type"]) for row in shown] == [(sbom, "subject.accessory"), (signature, "signature.cosign")]
        listed = await site.admin.ok(200, "GET", f"{LIST}/v1/accessories?sort=creation_time")
        assert listed == shown
        assert {row["subject_artifact_digest"] for row in listed} == {image}
        assert {row["subject_artifact_repo"] for row in listed} == {"library/app"}
        only = await site.admin.ok(200, "GET", f"{LIST}/v1/accessories?q=type%3Dsignature.cosign")
        assert [row["digest"] for row in only] == [signature]

    async def test_they_go_with_it(self, site: AccountsNode) -> None:
        image = await push(site.admin, "library/app", "v1")
        sbom = await push(site.admin, "library/app", config={"s": 1}, subject=subject(image))
        signed = await push(site.admin, "library/app", config={"t": 1}, subject=subject(sbom))
        await site.admin.ok(200, "DELETE", f"{LIST}/v1")
        for digest in (image, sbom, signed):
            assert (await site.admin("GET", f"/v2/library/app/manifests/{digest}", accept=OCI_IMAGE)).status == 404


class TestDeleting:
    async def test_artifact_goes_with_all_its_tags(self, site: AccountsNode) -> None:
        await push(site.admin, "library/app", "v1")
        await site.admin.ok(201, "POST", f"{LIST}/v1/tags", {"name": "v2"})
        other = await push(site.admin, "library/app", "v3")
        await site.admin.ok(200, "DELETE", f"{LIST}/v2")
        assert await digests(site) == [other]
        assert (await site.admin.ok(200, "GET", "/v2/library/app/tags/list"))["tags"] == ["v3"]

    async def test_index_takes_along_what_nothing_else_names(self, site: AccountsNode) -> None:
        alone, tagged, shared = [await push(site.admin, "library/app", tag, config={"n": tag}) for tag in ("", "keep", "")]
        shared = await push(site.admin, "library/app", config={"n": "shared"})
        await push_index(site.admin, "library/app", "one", {alone: {}, tagged: {}, shared: {}})
        other = await push_index(site.admin, "library/app", "two", {shared: {}})
        reply = await site.admin("DELETE", f"{LIST}/{shared}")
        assert (reply.status, reply.code) == (412, "VIOLATE_FOREIGN_KEY_CONSTRAINT")
        assert reply.json()["errors"][0]["message"] == "the deleting artifact is referenced by others"
        await site.admin.ok(200, "DELETE", f"{LIST}/one")
        left = {row["digest"] for row in await site.admin.ok(200, "GET", f"{LIST}?q=base%3D*")}
        assert left == {tagged, shared, other}

    async def test_developers_may_not(self, site: AccountsNode) -> None:
        await make_user(site, "dev")
        await add_member(site, 1, "dev", 2)
        await push(site.admin, "library/app", "v1")
        dev = site.user("dev", PASSWORD)
        assert (await dev("DELETE", f"{LIST}/v1")).status == 403
        assert (await dev("DELETE", f"{LIST}/v1/tags/v1")).status == 403
        await dev.ok(201, "POST", f"{LIST}/v1/tags", {"name": "v2"})


class TestTags:
    async def test_tags_are_made_listed_and_deleted(self, site: AccountsNode) -> None:
        digest = await push(site.admin, "library/app", "v1")
        await site.admin.ok(201, "POST", f"{LIST}/{digest}/tags", {"name": "v2"})
        assert await tag_names(site, "v1") == ["v2", "v1"]
        assert [row["name"] for row in await site.admin.ok(200, "GET", f"{LIST}/v1/tags?q=name%3D~1")] == ["v1"]
        reply = await site.admin("GET", f"{LIST}/v1/tags?page_size=1&sort=name")
        assert ([row["name"] for row in rows(reply)], reply["x-total-count"]) == (["v1"], "2")
        await site.admin.ok(200, "DELETE", f"{LIST}/v2/tags/v1")
        assert await tag_names(site, "v2") == ["v2"]
        assert (await site.admin("GET", "/v2/library/app/manifests/v2")).status == 200

    @pytest.mark.parametrize("name", ["bad tag!", "", "x" * 129, "-a", "a/b", "a\0"])
    async def test_name_that_no_client_could_pull_is_refused(self, site: AccountsNode, name: str) -> None:
        await push(site.admin, "library/app", "v1")
        assert (await site.admin("POST", f"{LIST}/v1/tags", {"name": name})).status == 400
        assert await tag_names(site, "v1") == ["v1"]

    async def test_tag_that_is_there_or_not_is_refused_in_harbors_words(self, site: AccountsNode) -> None:
        await push(site.admin, "library/app", "v1")
        await push(site.admin, "library/app", "v2")
        reply = await site.admin("POST", f"{LIST}/v1/tags", {"name": "v2"})
        assert (reply.status, reply.code) == (409, "CONFLICT")
        reply = await site.admin("DELETE", f"{LIST}/v1/tags/v2")
        assert (reply.status, reply.json()["errors"][0]["message"]) == (404, "tag v2 attached to artifact 1 not found")


class TestCopying:
    async def test_copy_has_the_tags_and_all_that_belongs_to_the_artifact(self, site: AccountsNode) -> None:
        child = await push(site.admin, "library/app", layers=[Part(content=b"layer")])
        index = await push_index(site.admin, "library/app", "v1", {child: {}})
        sbom = await push(site.admin, "library/app", config={"s": 1}, subject=subject(index))
        await make_project(site.admin, "team")
        assert (await site.admin("POST", "/projects/team/repositories/new%252Fapp/artifacts")).status == 422
        reply = await site.admin("POST", "/projects/team/repositories/new%252Fapp/artifacts?from=library%2Fapp%3Av1")
        assert (reply.status, reply["location"]) == (201, "/api/v2.0/projects/team/repositories/new%252Fapp/artifacts/v1")
        shown = await site.admin.ok(200, "GET", "/projects/team/repositories/new%252Fapp/artifacts/v1?with_accessory=true")
        assert shown["digest"] == index
        assert [each["digest"] for each in shown["accessories"]] == [sbom]
        await site.admin.ok(200, "DELETE", APP)
        pulled = await site.admin("GET", f"/v2/team/new/app/manifests/{child}", accept=OCI_IMAGE)
        for part in (pulled.json()["config"], *pulled.json()["layers"]):
            assert (await site.admin("GET", f"/v2/team/new/app/blobs/{part['digest']}")).status == 200

    async def test_source_must_be_there_and_the_caller_must_see_it(self, site: AccountsNode) -> None:
        await make_project(site.admin, "secret")
        await push(site.admin, "secret/app", "v1")
        await push(site.admin, "library/app", "v1")
        await make_user(site, "alice")
        await make_project(site.user("alice", PASSWORD), "own")
        alice = site.user("alice", PASSWORD)
        target = "/projects/own/repositories/x/artifacts"
        cases: list[tuple[str, int]] = [
            ("secret/app:v1", 403),
            ("nosuch/app:v1", 403),
            ("library/app:nosuch", 400),
            ("library/app", 400),
            ("", 422),
            ("library/app@sha256:1", 400),
            ("library/app:v1", 201),
            ("library/app:v1", 409),
        ]
        for source, status in cases:
            reply = await alice("POST", f"{target}?from={source}")
            assert reply.status == status, (source, reply)
        assert (await alice("POST", f"{LIST}?from=own/x:v1")).status == 403


def test_helpers_describe_what_they_push() -> None:
    part: dict[str, Any] = Part(content=b"abc", annotations={"a": "b"}).descriptor()
    assert (part["size"], part["annotations"]) == (3, {"a": "b"})
