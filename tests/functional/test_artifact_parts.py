"""What stands beside artifacts at Harbor's paths: labels, pulls, additions; and what goes over all projects."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any, Final

import pytest

from tests.support.accounts import PASSWORD, AccountsNode, add_member, make_project, make_user, rows, site
from tests.support.stored import OCI_IMAGE, Part, push, push_index
from twinhull.catalog.documents import create_document, delete_document
from twinhull.records.kinds import LABEL

__all__ = ["site"]

APP: Final = "/projects/library/repositories/app"
LIST: Final = f"{APP}/artifacts"
CHART_CONFIG: Final = "application/vnd.cncf.helm.config.v1+json"
CHART_LAYER: Final = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
NEVER: Final = "0001-01-01T00:00:00.000Z"


def make_label(site: AccountsNode, name: str, project: str = "") -> int:
    with site.store.write() as transaction:
        return create_document(transaction, LABEL, {"color": "#FF0000", "description": ""}, project=project, name=name)


def packed(files: Mapping[str, bytes | str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, content in files.items():
            raw = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(path)
            entry.size = len(raw)
            tar.addfile(entry, io.BytesIO(raw))
    return gzip.compress(out.getvalue())


class TestLabels:
    async def test_labels_are_put_on_shown_and_taken_off(self, site: AccountsNode) -> None:
        digest = await push(site.admin, "library/app", "v1")
        ours, everybodys = make_label(site, "ours", "library"), make_label(site, "all")
        for number in (ours, everybodys):
            await site.admin.ok(200, "POST", f"{LIST}/v1/labels", {"id": number})
        shown = (await site.admin.ok(200, "GET", f"{LIST}/v1?with_label=true"))["labels"]
        assert [(row["name"], row["scope"], row.get("project_id")) for row in shown] == [("all", "g", None), ("ours", "p", 1)]
        assert (await site.admin.ok(200, "GET", f"{LIST}/v1"))["labels"] is None
        await site.admin.ok(200, "DELETE", f"{LIST}/{digest}/labels/{ours}")
        shown = (await site.admin.ok(200, "GET", f"{LIST}?with_label=true"))[0]["labels"]
        assert [row["id"] for row in shown] == [everybodys]
        with site.store.write() as transaction:
            delete_document(transaction, LABEL, everybodys)
        assert (await site.admin.ok(200, "GET", f"{LIST}/v1?with_label=true"))["labels"] is None

    async def test_what_can_not_be_done_is_refused_in_harbors_words(self, site: AccountsNode) -> None:
        await push(site.admin, "library/app", "v1")
        await make_project(site.admin, "team")
        ours, theirs = make_label(site, "ours", "library"), make_label(site, "theirs", "team")
        await site.admin.ok(200, "POST", f"{LIST}/v1/labels", {"id": ours})
        unknown = "the reference tries to refer a non existing label {} or artifact 1"
        cases: list[tuple[str, str, object, int, str]] = [
            ("POST", f"{LIST}/v1/labels", {"id": ours}, 409, f"label {ours} is already added to the artifact 1"),
            ("POST", f"{LIST}/v1/labels", {"id": 99}, 404, unknown.format(99)),
            ("POST", f"{LIST}/v1/labels", {}, 404, unknown.format(0)),
            ("POST", f"{LIST}/v1/labels", {"id": theirs}, 404, unknown.format(theirs)),
            ("DELETE", f"{LIST}/v1/labels/{theirs}", None, 404, f"reference with label {theirs} and artifact 1 not found"),
            ("DELETE", f"{LIST}/v1/labels/99", None, 404, "reference with label 99 and artifact 1 not found"),
        ]
        for method, path, body, status, message in cases:
            reply = await site.admin(method, path, body)
            assert (reply.status, reply.json()["errors"][0]["message"]) == (status, message)
        assert (await site.admin("DELETE", f"{LIST}/v1/labels/x")).status == 422
        assert (await site.admin("POST", f"{LIST}/v1/labels", {"id": "x"})).status == 422
        await make_user(site, "guest")
        await add_member(site, 1, "guest", 3)
        assert (await site.user("guest", PASSWORD)("DELETE", f"{LIST}/v1/labels/{ours}")).status == 403

    async def test_artifacts_are_found_by_their_labels(self, site: AccountsNode) -> None:
        digests = [await push(site.admin, "library/app", f"v{each}") for each in range(3)]
        one, two = make_label(site, "one"), make_label(site, "two")
        for reference, number in (("v0", one), ("v1", one), ("v1", two), ("v2", two)):
            await site.admin.ok(200, "POST", f"{LIST}/{reference}/labels", {"id": number})
        for query, found in (
            (f"({one})", [1, 0]),
            (f"({one} {two})", [1]),
            (f"{{{one} {two}}}", [2, 1, 0]),
            (f"{two}", [2, 1]),
            ("(99)", []),
            (f"({one} 99)", []),
        ):
            path = f"{LIST}?q=labels%3D{query.replace(' ', '%20')}"
            assert [row["digest"] for row in await site.admin.ok(200, "GET", path)] == [digests[each] for each in found], query
        for query in ("~1", "[1~2]", "(x)", "(1 x)"):
            assert (await site.admin("GET", f"{LIST}?q=labels%3D{query.replace(' ', '%20')}")).status == 400
        # Under another name it is on the same artifacts.
        await site.admin.ok(200, "PUT", f"/labels/{one}", {"name": "uno", "scope": "g"})
        renamed = await site.admin.ok(200, "GET", f"{LIST}?with_label=true&q=labels%3D({one})")
        assert [[label["name"] for label in row["labels"]] for row in renamed] == [["two", "uno"], ["uno"]]

    @pytest.mark.parametrize("path", [f"{LIST}/v1", APP])
    async def test_labels_go_with_the_artifact_for_good(self, site: AccountsNode, path: str) -> None:
        await push(site.admin, "library/app", "v1")
        await site.admin.ok(200, "POST", f"{LIST}/v1/labels", {"id": make_label(site, "checked")})
        await site.admin.ok(200, "DELETE", path)
        await push(site.admin, "library/app", "v1")
        assert (await site.admin.ok(200, "GET", f"{LIST}/v1?with_label=true"))["labels"] is None


class TestPulls:
    async def test_pulls_are_counted_and_timed_for_what_was_pulled(self, site: AccountsNode) -> None:
        digest = await push(site.admin, "library/app", "v1")
        await push(site.admin, "library/app", "v2", config={"n": 2})
        await site.admin.ok(201, "POST", f"{LIST}/v1/tags", {"name": "v1b"})
        for _ in range(3):
            assert (await site.admin("GET", "/v2/library/app/manifests/v1", accept=OCI_IMAGE)).status == 200
        await site.pulls.flush()
        assert (await site.anonymous("GET", f"/v2/library/app/manifests/{digest}", accept=OCI_IMAGE)).status == 200
        assert (await site.admin("HEAD", "/v2/library/app/manifests/v2", accept=OCI_IMAGE)).status == 200
        copying = {"accept": OCI_IMAGE, "user_agent": "harbor-registry-client"}
        assert (await site.admin("GET", "/v2/library/app/manifests/v2", **copying)).status == 200
        await site.pulls.flush()
        await site.pulls.flush()
        assert (await site.admin.ok(200, "GET", APP))["pull_count"] == 4
        assert (await site.admin.ok(200, "GET", "/repositories"))[0]["pull_count"] == 4
        shown = await site.admin.ok(200, "GET", f"{LIST}/v1")
        assert shown["pull_time"] != NEVER
        assert {tag["name"]: tag["pull_time"] == NEVER for tag in shown["tags"]} == {"v1": False, "v1b": True}
        listed = rows(await site.admin("GET", f"{LIST}/v1/tags?sort=name"))
        assert [row["pull_time"] == NEVER for row in listed] == [False, True]
        assert (await site.admin.ok(200, "GET", f"{LIST}/v2"))["pull_time"] == NEVER

    async def test_audit_log_says_who_pulled_what_by_which_name(self, site: AccountsNode) -> None:
        digest = await push(site.admin, "library/app", "v1")
        for _ in range(2):
            assert (await site.admin("GET", "/v2/library/app/manifests/v1", accept=OCI_IMAGE)).status == 200
        assert (await site.anonymous("GET", f"/v2/library/app/manifests/{digest}", accept=OCI_IMAGE)).status == 200
        await site.pulls.flush()
        found = await site.admin.ok(200, "GET", "/audit-logs?q=operation%3Dpull")
        assert sorted((row["username"], row["resource"], row["resource_type"]) for row in found) == [
            ("admin", "library/app:v1", "artifact"),
            ("anonymous", f"library/app:{digest}", "artifact"),
        ]
        await site.admin.ok(200, "PUT", "/configurations", {"disabled_audit_log_event_types": "pull_artifact"})
        assert (await site.admin("GET", "/v2/library/app/manifests/v1", accept=OCI_IMAGE)).status == 200
        await site.pulls.flush()
        assert len(await site.admin.ok(200, "GET", "/audit-logs?q=operation%3Dpull")) == 2

    async def test_first_pull_after_a_pause_is_written_down_soon_and_the_next_ones_together(self, site: AccountsNode) -> None:
        await push(site.admin, "library/app", "v1")
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            counting = group.create_task(site.pulls.run(interval_s=3600, first_s=0))
            assert (await site.admin("GET", "/v2/library/app/manifests/v1", accept=OCI_IMAGE)).status == 200
            while (await site.admin.ok(200, "GET", APP))["pull_count"] != 1:
                await asyncio.sleep(0)
            assert (await site.admin("GET", "/v2/library/app/manifests/v1", accept=OCI_IMAGE)).status == 200
            for _ in range(5):
                assert (await site.admin.ok(200, "GET", APP))["pull_count"] == 1
            counting.cancel()
        # Nothing is lost in a quiet stop.
        assert (await site.admin.ok(200, "GET", APP))["pull_count"] == 2

    async def test_what_was_deleted_is_not_counted_and_begins_anew(self, site: AccountsNode) -> None:
        await push(site.admin, "library/app", "v1")
        assert (await site.admin("GET", "/v2/library/app/manifests/v1", accept=OCI_IMAGE)).status == 200
        await site.admin.ok(200, "DELETE", f"{LIST}/v1")
        await site.pulls.flush()
        await push(site.admin, "library/app", "v1")
        assert (await site.admin.ok(200, "GET", f"{LIST}/v1"))["pull_time"] == NEVER
        assert (await site.admin.ok(200, "GET", APP))["pull_count"] == 0


class TestAdditions:
    async def test_history_of_an_image_is_that_of_its_configuration(self, site: AccountsNode) -> None:
        history = [{"created_by": "x", "empty_layer": True}, {"created": "2026-01-01T00:00:00Z"}]
        await push(site.admin, "library/app", "v1", config={"history": history})
        reply = await site.admin("GET", f"{LIST}/v1/additions/build_history")
        assert (reply.status, reply["content-type"]) == (200, "application/json; charset=utf-8")
        assert json.loads(reply.body) == history

    async def test_chart_shows_values_readme_and_dependencies(self, site: AccountsNode) -> None:
        needs = {"name": "redis", "version": "1.x", "repository": "https://charts.example/"}
        chart = {"apiVersion": "v2", "name": "app", "version": "1.0.0", "dependencies": [{**needs, "alias": "cache"}]}
        files = {
            "app/Chart.yaml": json.dumps(chart),
            "app/values.yaml": "a: 1\n",
            "app/README.md": "# App\n",
            "app/charts/redis/values.yaml": "not: this\n",
        }
        layer = Part(content=packed(files), media_type=CHART_LAYER)
        await push(site.admin, "library/app", "1.0.0", config=chart, config_type=CHART_CONFIG, layers=[layer])
        for name, content, kind in (
            ("values.yaml", b"a: 1\n", "text/plain; charset=utf-8"),
            ("readme.md", b"# App\n", "text/markdown; charset=utf-8"),
            ("README.MD", b"# App\n", "text/markdown; charset=utf-8"),
        ):
            reply = await site.admin("GET", f"{LIST}/1.0.0/additions/{name}")
            assert (reply.status, reply.body, reply["content-type"]) == (200, content, kind)
        assert await site.admin.ok(200, "GET", f"{LIST}/1.0.0/additions/dependencies") == [needs]
        links = (await site.admin.ok(200, "GET", f"{LIST}/1.0.0"))["addition_links"]
        assert list(links) == ["values.yaml", "readme.md", "dependencies"]
        for name in links:
            assert (await site.admin("GET", links[name]["href"])).status == 200

    async def test_what_an_artifact_does_not_have_is_refused_in_harbors_words(self, site: AccountsNode) -> None:
        image = await push(site.admin, "library/app", "v1")
        await push_index(site.admin, "library/app", "idx", {image: {}})
        await push(site.admin, "library/app", "c1", config_type=CHART_CONFIG)
        await push(site.admin, "library/app", "u1", config_type="text/plain")
        cases = [
            ("v1", "readme.md", 400, "addition README.MD isn't supported for IMAGE(manifest version 2)"),
            ("idx", "build_history", 400, "addition BUILD_HISTORY isn't supported"),
            ("c1", "build_history", 400, "addition BUILD_HISTORY isn't supported for CHART"),
            ("u1", "sbom", 400, "the processor for artifact UNKNOWN not found, cannot get the addition"),
            ("v1", "vulnerabilities", 404, "no scanner registration configured for project: 1"),
            ("nosuch", "build_history", 404, "artifact library/app:nosuch not found"),
        ]
        for reference, name, status, message in cases:
            reply = await site.admin("GET", f"{LIST}/{reference}/additions/{name}")
            assert (reply.status, reply.json()["errors"][0]["message"]) == (status, message)
        assert (await site.admin("GET", f"{LIST}/v1/additions/nosuch")).status == 422

    @pytest.mark.parametrize(
        "archive",
        [
            b"no gzip",
            gzip.compress(b"no tar"),
            packed({"app/values.yaml": "a: 1"}),
            packed({"app/Chart.yaml": "name: app"})[:-20],
            gzip.compress(b"\0" * 200_000_000, compresslevel=1),
        ],
    )
    async def test_chart_that_is_none_breaks_nothing(self, site: AccountsNode, archive: bytes) -> None:
        layer = Part(content=archive, media_type=CHART_LAYER)
        await push(site.admin, "library/app", "1.0.0", config_type=CHART_CONFIG, layers=[layer])
        assert (await site.admin("GET", f"{LIST}/1.0.0/additions/values.yaml")).status in (400, 413)


class TestOverAllProjects:
    async def test_search_finds_what_the_caller_may_see(self, site: AccountsNode) -> None:
        for name, public in (("team-a", True), ("team-b", False)):
            await make_project(site.admin, name, public=public)
            await push(site.admin, f"{name}/app", "v1")
        await make_user(site, "alice")
        found = await site.admin.ok(200, "GET", "/search?q=team")
        assert [row["name"] for row in found["project"]] == ["team-a", "team-b"]
        assert [row["repository_name"] for row in found["repository"]] == ["team-a/app", "team-b/app"]
        assert found["project"][0]["repo_count"] == 1
        assert found["repository"][0] == {
            "artifact_count": 1,
            "project_id": found["project"][0]["project_id"],
            "project_name": "team-a",
            "project_public": True,
            "pull_count": 0,
            "repository_name": "team-a/app",
        }
        for api in (site.anonymous, site.user("alice", PASSWORD)):
            found = await api.ok(200, "GET", "/search?q=team")
            assert [row["name"] for row in found["project"]] == ["team-a"]
            assert [row["repository_name"] for row in found["repository"]] == ["team-a/app"]
        assert await site.admin.ok(200, "GET", "/search?q=%25") == {"project": [], "repository": []}
        assert await site.admin.ok(200, "GET", "/search?q=%00") == {"project": [], "repository": []}

    async def test_statistics_count_what_is_ones_own_and_what_is_everybodys(self, site: AccountsNode) -> None:
        await make_user(site, "alice")
        alice = site.user("alice", PASSWORD)
        await make_project(alice, "own")
        await make_project(site.admin, "secret")
        for project in ("library", "own", "secret"):
            await push(site.admin, f"{project}/app", "v1", layers=[Part(content=b"x" * 1000)])
        theirs = await alice.ok(200, "GET", "/statistics")
        assert theirs == {
            "private_project_count": 1,
            "private_repo_count": 1,
            "public_project_count": 1,
            "public_repo_count": 1,
        }
        everything = await site.admin.ok(200, "GET", "/statistics")
        assert (everything["total_project_count"], everything["total_repo_count"]) == (3, 3)
        # The same bytes in three places take their room once.
        assert 1000 < everything["total_storage_consumption"] < 2000
        reply = await site.anonymous("GET", "/statistics")
        assert (reply.status, reply.json()["errors"][0]["message"]) == (401, "UnAuthorized")

    async def test_icon_is_a_picture(self, site: AccountsNode) -> None:
        await push(site.admin, "library/app", "v1")
        digest = (await site.admin.ok(200, "GET", f"{LIST}/v1"))["icon"]
        found = await site.admin.ok(200, "GET", f"/icons/{digest}")
        assert found["content-type"] == "image/png"
        assert base64.b64decode(found["content"]).startswith(b"\x89PNG")
        for unknown in (f"sha256:{'0' * 64}", "x", "sha256:1"):
            assert (await site.admin("GET", f"/icons/{unknown}")).status == 404

    async def test_pushed_icon_is_for_those_who_may_see_the_artifact(self, site: AccountsNode) -> None:
        await make_project(site.admin, "secret")
        picture = base64.b64decode((await site.admin.ok(200, "GET", f"/icons/{_IMAGE_ICON}"))["content"])
        mark = {"io.goharbor.artifact.v1alpha1.icon": ""}
        layers = [
            Part(content=picture, media_type="image/png", annotations=mark),
            Part(content=b"other", media_type="text/plain"),
        ]
        kind = "application/vnd.acme.rocket.config.v1+json"
        await push(site.admin, "secret/app", "v1", config_type=kind, layers=layers)
        shown: Any = await site.admin.ok(200, "GET", "/projects/secret/repositories/app/artifacts/v1")
        path = f"/icons/{shown['icon']}"
        assert base64.b64decode((await site.admin.ok(200, "GET", path))["content"]) == picture
        assert (await site.anonymous("GET", path)).status == 404
        other = layers[1].descriptor()["digest"]
        assert (await site.admin("GET", f"/icons/{other}")).status == 404


_IMAGE_ICON: Final = "sha256:0048162a053eef4d4ce3fe7518615bef084403614f8bca43b40ae2e762e11e06"
