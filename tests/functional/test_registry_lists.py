"""Lists of tags, repositories and referrers, and the paths of the data plane."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.composed import Client, Node
from tests.support.small_images import REPOSITORY, SCOPE, manifest, push, push_blob, push_image
from twinhull.catalog.media import OCI_IMAGE, OCI_INDEX
from twinhull.kit.digest import digest_of


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    made.add_project("team")
    made.add_project("open", public=True)
    made.add_project("other")
    made.add_user("alice", team=1, open=1)
    made.add_user("nobody")
    yield made
    made.close()


@pytest.fixture
async def alice(node: Node) -> Client:
    return await node.client("alice", SCOPE, "repository:open/app:pull,push,delete")


class TestListing:
    async def test_tags_come_in_pages_in_the_order_of_their_bytes(self, alice: Client) -> None:
        await push_image(alice, manifest(), "b")
        for tag in ("a", "Z", "_", "a.1", "0"):
            await push(alice, manifest(), tag)
        page = await alice("GET", f"/v2/{REPOSITORY}/tags/list?n=4")
        assert page.json()["tags"] == ["0", "Z", "_", "a"]
        assert page["link"] == f'</v2/{REPOSITORY}/tags/list?n=4&last=a>; rel="next"'
        rest = await alice("GET", f"/v2/{REPOSITORY}/tags/list?n=4&last=a")
        assert rest.json() == {"name": REPOSITORY, "tags": ["a.1", "b"]}
        assert rest.get("link") is None
        none = await alice("GET", f"/v2/{REPOSITORY}/tags/list?n=0")
        assert (none.status, none.json()["tags"], none.get("link")) == (200, [], None)

    @pytest.mark.parametrize("n", ["-1", "x", "1.5", "٣", "9" * 30])
    async def test_a_page_size_that_is_no_number_is_refused(self, alice: Client, n: str) -> None:
        assert (await alice("GET", f"/v2/{REPOSITORY}/tags/list?n={n}")).status == 400

    async def test_the_catalog_shows_what_the_caller_may_see(self, node: Node, alice: Client) -> None:
        await push_image(alice, manifest())
        await push_blob(alice, b"{}", "open/app")
        await push(alice, manifest(), "v1", "open/app")
        node.add_admin("stored-admin")
        for user, seen in (
            ("alice", ["open/app", REPOSITORY]),
            ("nobody", ["open/app"]),
            ("admin", ["open/app", REPOSITORY]),
        ):
            client = await node.client(user, "registry:catalog:*")
            assert (await client("GET", "/v2/_catalog")).json() == {"repositories": seen}
        page = await (await node.client("admin", "registry:catalog:*"))("GET", "/v2/_catalog?n=1")
        assert page.json() == {"repositories": ["open/app"]}
        assert page["link"] == '</v2/_catalog?n=1&last=open%2Fapp>; rel="next"'
        assert (await Client(node)("GET", "/v2/_catalog")).status == 401

    async def test_referrers_come_filtered_and_in_pages(self, alice: Client) -> None:
        await push_image(alice, manifest())
        subject = {"mediaType": OCI_IMAGE, "digest": digest_of(manifest()), "size": len(manifest())}
        pushed = []
        for number in range(5):
            kind = "application/vnd.example.sbom" if number % 2 else "application/vnd.example.sig"
            referrer = manifest(subject=subject, artifactType=kind, annotations={"n": str(number)})
            reply = await push(alice, referrer)
            assert reply["oci-subject"] == digest_of(manifest())
            pushed.append((digest_of(referrer), kind))
        url = f"/v2/{REPOSITORY}/referrers/{digest_of(manifest())}"
        whole = await alice("GET", url)
        assert whole["content-type"] == OCI_INDEX
        assert [entry["digest"] for entry in whole.json()["manifests"]] == sorted(digest for digest, _ in pushed)
        found = []
        while url:
            page = await alice("GET", url + ("" if "?" in url else "?n=2&artifactType=application/vnd.example.sig"))
            assert page["oci-filters-applied"] == "artifactType"
            found += [entry["digest"] for entry in page.json()["manifests"]]
            url = (page.get("link") or "").partition(">")[0][1:]
        assert found == sorted(digest for digest, kind in pushed if kind.endswith("sig"))


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/v2/Team/app/manifests/v1", 400),
            ("/v2/team/../app/manifests/v1", 400),
            ("/v2/team//app/manifests/v1", 400),
            ("/v2/app/manifests/v1", 400),
            ("/v2/" + "a/" * 200 + "app/manifests/v1", 400),
            ("/v2/team/app", 404),
            ("/v2/team/app/manifests/", 404),
            ("/v2/team/app/other/v1", 404),
            ("/v2x", 404),
        ],
    )
    async def test_what_is_no_path_of_the_api(self, alice: Client, path: str, status: int) -> None:
        reply = await alice("GET", path)
        assert reply.status == status
        assert reply.code in ("NAME_INVALID", "NAME_UNKNOWN")

    async def test_words_of_the_api_may_be_in_names(self, node: Node) -> None:
        name = "team/manifests/blobs/uploads/tags/list"
        client = await node.client("alice", f"repository:{name}:pull,push")
        await push_blob(client, b"{}", name)
        assert (await push(client, manifest(), "latest", name)).status == 201
        assert (await client("GET", f"/v2/{name}/manifests/latest")).status == 200
        assert (await client("GET", f"/v2/{name}/tags/list")).json()["name"] == name

    async def test_a_wrong_method_names_the_right_ones(self, alice: Client) -> None:
        reply = await alice("POST", f"/v2/{REPOSITORY}/manifests/v1")
        assert (reply.status, reply["allow"]) == (405, "GET, HEAD, PUT, DELETE")

    async def test_every_answer_has_a_request_id_and_keeps_the_clients(self, alice: Client) -> None:
        assert (await alice("GET", f"/v2/{REPOSITORY}/manifests/v1"))["x-request-id"]
        assert (await alice("GET", "/v2/x", x_request_id="mine-1"))["x-request-id"] == "mine-1"
        assert (await alice("GET", "/v2/x", x_request_id='"bad id"'))["x-request-id"] != '"bad id"'
