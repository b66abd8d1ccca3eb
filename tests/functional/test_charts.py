"""Helm charts at ChartMuseum's paths: the same charts as those that are pushed as OCI artifacts."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.accounts import PASSWORD, AccountsNode, add_member, make_project, make_user, rows, site
from tests.support.clients import require_client
from tests.support.packaged_chart import chart
from tests.support.single import SingleNode, running_node
from tests.support.stored import Part, push
from twinhull.catalog.charts import CHART_BYTES_MAX
from twinhull.catalog.documents import create_document
from twinhull.records.kinds import LABEL

__all__ = ["site"]

BOUNDARY: Final = "x-limit-x"
FORM: Final = f"multipart/form-data; boundary={BOUNDARY}"
CHART_CONFIG: Final = "application/vnd.cncf.helm.config.v1+json"
CHART_LAYER: Final = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


def form(**files: bytes) -> bytes:
    """Return the body of a form with these files."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.tgz"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files.items()
    ]
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def provenance(name: str, version: str) -> bytes:
    """Return what stands in a provenance file, but for the signature."""
    return f"-----BEGIN PGP SIGNED MESSAGE-----\n\napiVersion: v2\nname: {name}\nversion: {version}\n\n...\n".encode()


async def upload(site: AccountsNode, project: str, **files: bytes) -> None:
    reply = await site.admin("POST", f"/api/chartrepo/{project}/charts", form(**files), content_type=FORM)
    assert (reply.status, reply.json()) == (201, {"saved": True}), reply


async def index_of(site: AccountsNode, project: str) -> dict[str, Any]:
    reply = await site.admin("GET", f"/chartrepo/{project}/index.yaml")
    assert reply.status == 200, reply
    document: dict[str, Any] = yaml.safe_load(reply.body)
    return document


class TestCharts:
    async def test_uploaded_chart_is_in_the_index_and_comes_back_as_it_was(self, site: AccountsNode) -> None:
        archive = chart("app", "1.0.0+build.1", appVersion="2.0")
        await upload(site, "library", chart=archive, prov=provenance("app", "1.0.0+build.1"))
        (entry,) = (await index_of(site, "library"))["entries"]["app"]
        assert (entry["version"], entry["appVersion"], entry["urls"]) == (
            "1.0.0+build.1",
            "2.0",
            ["charts/app-1.0.0+build.1.tgz"],
        )
        reply = await site.admin("GET", f"/chartrepo/library/{entry['urls'][0]}")
        assert (reply.status, reply.body) == (200, archive)
        reply = await site.admin("GET", f"/chartrepo/library/{entry['urls'][0]}.prov")
        assert (reply.status, reply.body) == (200, provenance("app", "1.0.0+build.1"))
        assert (await site.admin("GET", "/chartrepo/library/charts/app-9.tgz")).status == 404

    async def test_it_is_an_artifact_like_those_that_helm_pushes(self, site: AccountsNode) -> None:
        await upload(site, "library", chart=chart("app", "1.0.0"))
        shown = await site.admin.ok(200, "GET", "/projects/library/repositories/app/artifacts/1.0.0")
        assert (shown["type"], shown["extra_attrs"]["name"]) == ("CHART", "app")
        readme = await site.admin("GET", "/projects/library/repositories/app/artifacts/1.0.0/additions/readme.md")
        assert readme.body == b"# hello\n"

    async def test_chart_that_was_pushed_as_an_artifact_is_in_the_index(self, site: AccountsNode) -> None:
        archive = chart("app", "2.0.0")
        layer = Part(content=archive, media_type=CHART_LAYER)
        said = {"name": "app", "version": "2.0.0", "apiVersion": "v2"}
        await push(site.admin, "library/sub/app", "2.0.0", config=said, config_type=CHART_CONFIG, layers=[layer])
        (entry,) = (await index_of(site, "library"))["entries"]["app"]
        assert entry["urls"] == ["charts/sub/app/app-2.0.0.tgz"]
        assert (await site.admin("GET", f"/chartrepo/library/{entry['urls'][0]}")).body == archive

    async def test_charts_and_versions_are_listed_and_shown(self, site: AccountsNode) -> None:
        for name, version in (("app", "1.0.0"), ("app", "1.1.0"), ("zoo", "0.1.0")):
            await upload(site, "library", chart=chart(name, version, home="https://x.example/", icon="https://x.example/i.png"))
        shown = rows(await site.admin("GET", "/api/chartrepo/library/charts"))
        assert [(row["name"], row["total_versions"], row["latest_version"]) for row in shown] == [
            ("app", 2, "1.1.0"),
            ("zoo", 1, "0.1.0"),
        ]
        versions = rows(await site.admin("GET", "/api/chartrepo/library/charts/app"))
        assert [row["version"] for row in versions] == ["1.1.0", "1.0.0"]
        details = await site.admin.ok(200, "GET", "/api/chartrepo/library/charts/app/1.0.0")
        assert details["metadata"]["version"] == "1.0.0"
        assert details["values"] == {"image.tag": "v1"}
        assert details["files"]["README.md"] == "# hello\n"
        assert details["security"]["signature"] == {"signed": False, "prov_file": ""}
        for path in ("app/9.9.9", "nosuch", "nosuch/1.0.0"):
            reply = await site.admin("GET", f"/api/chartrepo/library/charts/{path}")
            assert (reply.status, list(reply.json())) == (404, ["error"])
        assert await site.admin.ok(200, "GET", "/api/chartrepo/health") == {"healthy": True}

    async def test_provenance_may_come_later(self, site: AccountsNode) -> None:
        archive = chart("app", "1.0.0")
        await upload(site, "library", chart=archive)
        reply = await site.admin(
            "POST", "/api/chartrepo/library/prov", form(prov=provenance("app", "1.0.0")), content_type=FORM
        )
        assert reply.status == 201, reply
        assert (await site.admin("GET", "/chartrepo/library/charts/app-1.0.0.tgz")).body == archive
        details = await site.admin.ok(200, "GET", "/api/chartrepo/library/charts/app/1.0.0")
        assert details["security"]["signature"]["signed"] is True
        assert (await site.admin("GET", details["security"]["signature"]["prov_file"])).status == 200
        assert len(await site.admin.ok(200, "GET", "/projects/library/repositories/app/artifacts")) == 1
        for content, status in ((provenance("app", "9.9.9"), 404), (b"no provenance", 400)):
            reply = await site.admin("POST", "/api/chartrepo/library/prov", form(prov=content), content_type=FORM)
            assert reply.status == status

    async def test_versions_and_whole_charts_are_deleted(self, site: AccountsNode) -> None:
        for version in ("1.0.0", "1.1.0", "1.2.0"):
            await upload(site, "library", chart=chart("app", version))
        await site.admin.ok(200, "DELETE", "/api/chartrepo/library/charts/app/1.1.0")
        assert [row["version"] for row in (await index_of(site, "library"))["entries"]["app"]] == ["1.2.0", "1.0.0"]
        await site.admin.ok(200, "DELETE", "/api/chartrepo/library/charts/app")
        assert (await index_of(site, "library"))["entries"] == {}
        assert (await site.admin("DELETE", "/api/chartrepo/library/charts/app")).status == 404

    async def test_labels_are_those_of_the_artifact(self, site: AccountsNode) -> None:
        await upload(site, "library", chart=chart("app", "1.0.0"))
        with site.store.write() as transaction:
            number = create_document(transaction, LABEL, {"color": "", "description": "d"}, name="stable")
        path = "/api/v2.0/chartrepo/library/charts/app/1.0.0/labels"
        await site.admin.ok(200, "POST", "/api/v2.0/chartrepo/library/charts/app/1.0.0/labels", {"id": number})
        assert (await site.admin("POST", path, {"id": number})).status == 409
        shown = await site.admin.ok(200, "GET", "/api/v2.0/chartrepo/library/charts/app/1.0.0/labels")
        assert [(row["name"], row["description"]) for row in shown] == [("stable", "d")]
        artifact = await site.admin.ok(200, "GET", "/projects/library/repositories/app/artifacts/1.0.0?with_label=true")
        assert artifact["labels"] == shown
        await site.admin.ok(200, "DELETE", f"/api/v2.0/chartrepo/library/charts/app/1.0.0/labels/{number}")
        assert await site.admin.ok(200, "GET", path) == []

    async def test_everybody_does_what_they_may(self, site: AccountsNode) -> None:
        number = await make_project(site.admin, "team")
        await make_user(site, "dev")
        await add_member(site, number, "dev", 2)
        dev = site.user("dev", PASSWORD)
        reply = await dev("POST", "/api/chartrepo/team/charts", form(chart=chart("app", "1.0.0")), content_type=FORM)
        assert reply.status == 201
        assert (await dev("DELETE", "/api/chartrepo/team/charts/app/1.0.0")).status == 403
        reply = await site.anonymous("GET", "/chartrepo/team/index.yaml")
        assert (reply.status, reply["www-authenticate"]) == (401, 'Basic realm="harbor"')
        assert (await dev("GET", "/chartrepo/team/index.yaml")).status == 200
        # ChartMuseum's clients that name no project mean the one that all have.
        assert (await dev("POST", "/api/chartrepo/charts", form(chart=chart("app", "1.0.0")), content_type=FORM)).status == 403
        reply = await site.admin("POST", "/api/chartrepo/charts", form(chart=chart("app", "1.0.0")), content_type=FORM)
        assert (reply.status, list((await index_of(site, "library"))["entries"])) == (201, ["app"])

    @pytest.mark.parametrize(
        "content",
        [
            b"no archive",
            chart("UPPER", "1.0.0"),
            chart("app", "not a version"),
            chart("../app", "1.0.0"),
            gzip.compress(b""),
            b"",
        ],
    )
    async def test_what_is_no_chart_is_refused(self, site: AccountsNode, content: bytes) -> None:
        reply = await site.admin("POST", "/api/chartrepo/library/charts", form(chart=content), content_type=FORM)
        assert (reply.status, list(reply.json())) == (400, ["error"])

    async def test_form_that_is_none_is_refused(self, site: AccountsNode) -> None:
        for body, kind, status in (
            (form(other=b"x"), FORM, 400),
            (b"--x", FORM, 400),
            (b"\xff" * 100, "multipart/form-data", 400),
            (chart("app", "1.0.0"), "application/gzip", 201),
            (b"x" * (CHART_BYTES_MAX + 1), "application/gzip", 413),
            (form(chart=b"x" * (CHART_BYTES_MAX + 1)), FORM, 413),
        ):
            reply = await site.admin("POST", "/api/chartrepo/library/charts", body, content_type=kind)
            assert reply.status == status, (kind, reply)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SingleNode]:
    """A running node."""
    with running_node(tmp_path) as running:
        yield running


def test_helm_adds_the_repository_and_pulls_from_it(node: SingleNode, tmp_path: Path) -> None:
    helm = require_client("helm")
    home = {name: str(tmp_path / "helm" / name) for name in ("HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME")}

    def run(*arguments: str) -> str:
        found = subprocess.run(
            [helm, *arguments], env=os.environ | home, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
        )
        assert found.returncode == 0, found.stderr
        return found.stdout

    (tmp_path / "app-1.0.0.tgz").write_bytes(chart("app", "1.0.0"))
    run("registry", "login", node.address, "--plain-http", "-u", node.user, "-p", node.password)
    run("push", "app-1.0.0.tgz", f"oci://{node.address}/library", "--plain-http")
    url = f"http://{node.address}/chartrepo/library"
    run("repo", "add", "ours", url, "--username", node.user, "--password", node.password)
    assert "1.0.0" in run("search", "repo", "ours/app")
    (tmp_path / "got").mkdir()
    run("pull", "ours/app", "--version", "1.0.0", "-d", str(tmp_path / "got"))
    assert (tmp_path / "got/app-1.0.0.tgz").read_bytes() == chart("app", "1.0.0")
    assert "tag: v1" in run("show", "values", "ours/app")
