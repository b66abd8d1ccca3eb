"""The data plane on real metadata and real files: who may do what, what is remembered, and what a push leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.composed import HOST, Client, Node
from tests.support.small_images import REPOSITORY, SCOPE, index, manifest, push, push_blob, push_image
from twinhull.catalog.media import OCI_IMAGE
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import DurabilityUnreached
from twinhull.metadata import content
from twinhull.records.kinds import BLOB, MANIFEST, PROJECT, TAG, content_key, tag_key


class Recorded:
    """A durability that notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.fails = False

    async def reached(self, seq: int, *, repository: str = "", digest: str | None = None, wanted: str = "") -> str:
        self.asked.append({"seq": seq, "repository": repository, "digest": digest, "wanted": wanted})
        if self.fails:
            raise DurabilityUnreached
        return wanted or "metadata"


@pytest.fixture
def durability() -> Recorded:
    return Recorded()


@pytest.fixture
def node(tmp_path: Path, durability: Recorded) -> Iterator[Node]:
    made = Node(tmp_path, durability=durability)
    made.add_project("team")
    made.add_project("open", public=True)
    made.add_project("other")
    made.add_user("alice", team=1, open=1)
    made.add_user("guest", team=3)
    made.add_user("nobody")
    yield made
    made.close()


@pytest.fixture
async def alice(node: Node) -> Client:
    return await node.client("alice", SCOPE, "repository:open/app:pull,push,delete")


class TestManifests:
    async def test_exact_bytes_come_back_by_tag_and_by_digest(self, alice: Client) -> None:
        odd = manifest().replace(b'{"schema', b'{\n   "schema') + b"\n "
        await push_image(alice, odd, "v1")
        for reference in ("v1", digest_of(odd)):
            for _ in range(2):
                reply = await alice("GET", f"/v2/{REPOSITORY}/manifests/{reference}")
                assert reply.status == 200
                assert reply.body == odd
                assert reply["content-type"] == OCI_IMAGE
                assert reply["docker-content-digest"] == digest_of(odd)
                assert reply["etag"] == f'"{digest_of(odd)}"'
            head = await alice("HEAD", f"/v2/{REPOSITORY}/manifests/{reference}")
            assert (head.status, head.body, head["content-length"]) == (200, b"", str(len(odd)))

    async def test_only_what_a_digest_names_may_be_kept_without_asking_again(self, alice: Client) -> None:
        await push_image(alice, manifest())
        assert "immutable" in (await alice("GET", f"/v2/{REPOSITORY}/manifests/{digest_of(manifest())}"))["cache-control"]
        assert (await alice("GET", f"/v2/{REPOSITORY}/manifests/v1"))["cache-control"] == "no-cache"

    async def test_a_moved_tag_is_seen_at_once_though_the_old_one_was_remembered(self, alice: Client) -> None:
        first, second = manifest(annotations={"n": "1"}), manifest(annotations={"n": "2"})
        await push_image(alice, first)
        for _ in range(3):
            assert (await alice("GET", f"/v2/{REPOSITORY}/manifests/v1")).body == first
        await push(alice, second, "v1")
        assert (await alice("GET", f"/v2/{REPOSITORY}/manifests/v1")).body == second
        assert (await alice("GET", f"/v2/{REPOSITORY}/manifests/{digest_of(first)}")).body == first

    async def test_what_another_process_deletes_is_gone_at_once(self, node: Node, alice: Client) -> None:
        await push_image(alice, manifest())
        assert (await alice("GET", f"/v2/{REPOSITORY}/manifests/v1")).status == 200
        with node.store.write() as transaction:
            transaction.delete(TAG, tag_key(REPOSITORY, "v1"))
        gone = await alice("GET", f"/v2/{REPOSITORY}/manifests/v1")
        assert (gone.status, gone.code) == (404, "MANIFEST_UNKNOWN")
        digest = digest_of(manifest())
        assert (await alice("GET", f"/v2/{REPOSITORY}/manifests/{digest}")).status == 200
        with node.store.write() as transaction:
            transaction.delete(MANIFEST, content_key(REPOSITORY, digest))
        assert (await alice("GET", f"/v2/{REPOSITORY}/manifests/{digest}")).status == 404

    async def test_a_push_writes_down_what_is_known_of_it(self, node: Node, alice: Client) -> None:
        await push_blob(alice, b"layer")
        pushed = manifest(layers=(b"layer",), annotations={"org.example": "x"})
        await push_image(alice, pushed)
        with node.store.write() as transaction:
            values = transaction.values(MANIFEST, content_key(REPOSITORY, digest_of(pushed)))
            tag = transaction.values(TAG, tag_key(REPOSITORY, "v1"))
        assert values is not None
        assert values["blobs"] == [[digest_of(b"{}"), 2, True], [digest_of(b"layer"), 5, True]]
        assert values["total_bytes"] == len(pushed) + 7
        assert values["pushed_by"] == "alice"
        assert tag is not None
        target = tag["target"]
        assert isinstance(target, dict)
        assert (target["digest"], target["pushed_by"]) == (digest_of(pushed), "alice")

    async def test_a_size_that_a_client_invents_is_not_believed(self, node: Node, alice: Client) -> None:
        lying = manifest().replace(b'"size": 2', b'"size": 2000000')
        await push_image(alice, lying)
        head = await alice("HEAD", f"/v2/{REPOSITORY}/blobs/{digest_of(b'{}')}")
        assert head["content-length"] == "2"
        with node.store.write() as transaction:
            transaction.delete(BLOB, content_key(REPOSITORY, digest_of(b"{}")))
        head = await alice("HEAD", f"/v2/{REPOSITORY}/blobs/{digest_of(b'{}')}")
        assert head["content-length"] == "2"

    async def test_a_push_again_outlives_a_delete_that_had_not_seen_it(self, node: Node, alice: Client) -> None:
        await push_image(alice, manifest())
        with node.store.write() as transaction:
            before = transaction.get(MANIFEST, content_key(REPOSITORY, digest_of(manifest())))
        await push(alice, manifest(), "v1")
        with node.store.write() as transaction:
            after = transaction.get(MANIFEST, content_key(REPOSITORY, digest_of(manifest())))
        assert before is not None
        assert after is not None
        assert after.versions[0].write.dot != before.versions[0].write.dot

    async def test_an_index_renews_what_it_lists(self, node: Node, alice: Client) -> None:
        await push_image(alice, manifest())
        key = content_key(REPOSITORY, digest_of(manifest()))
        with node.store.write() as transaction:
            before = transaction.get(MANIFEST, key)
        assert (await push(alice, index(manifest()), "multi")).status == 201
        with node.store.write() as transaction:
            after = transaction.get(MANIFEST, key)
        assert before is not None
        assert after is not None
        assert after.versions[0].write.dot != before.versions[0].write.dot

    async def test_missing_blobs_and_children_are_named_and_nothing_is_stored(self, node: Node, alice: Client) -> None:
        reply = await push(alice, manifest(layers=(b"one", b"two")), "v1")
        assert (reply.status, reply.code) == (400, "MANIFEST_BLOB_UNKNOWN")
        named = [entry["digest"] for entry in reply.json()["errors"][0]["detail"]]
        assert named == [digest_of(b"{}"), digest_of(b"one"), digest_of(b"two")]
        reply = await push(alice, index(manifest()), "v1")
        assert (reply.status, reply.code) == (400, "MANIFEST_BLOB_UNKNOWN")
        assert (await alice("GET", f"/v2/{REPOSITORY}/manifests/v1")).status == 404
        with node.store.read() as connection:
            assert not content.has_repository(connection, REPOSITORY)

    async def test_an_unknown_project_takes_nothing(self, node: Node) -> None:
        node.add_admin("stored-admin")
        admin = await node.client("admin", "repository:nowhere/app:pull,push")
        for reply in (
            await admin("POST", "/v2/nowhere/app/blobs/uploads/"),
            await admin("POST", f"/v2/nowhere/app/blobs/uploads/?digest={digest_of(b'x')}", b"x"),
            await push(admin, index(), "v1", "nowhere/app"),
        ):
            assert (reply.status, reply.code) == (401, "UNAUTHORIZED"), reply
        assert not list(node.blobs.uploads())


class TestDeleting:
    async def test_a_tag_goes_alone_and_a_manifest_with_its_tags(self, alice: Client) -> None:
        await push_image(alice, manifest(), "v1")
        await push(alice, manifest(), "v2")
        assert (await alice("DELETE", f"/v2/{REPOSITORY}/manifests/v1")).status == 202
        assert (await alice("GET", f"/v2/{REPOSITORY}/tags/list")).json()["tags"] == ["v2"]
        assert (await alice("DELETE", f"/v2/{REPOSITORY}/manifests/{digest_of(manifest())}")).status == 202
        assert (await alice("GET", f"/v2/{REPOSITORY}/tags/list")).json()["tags"] == []
        again = await alice("DELETE", f"/v2/{REPOSITORY}/manifests/v2")
        assert (again.status, again.code) == (404, "MANIFEST_UNKNOWN")

    async def test_what_an_index_lists_stays_until_the_index_goes(self, alice: Client) -> None:
        await push_image(alice, manifest())
        await push(alice, index(manifest()), "multi")
        refused = await alice("DELETE", f"/v2/{REPOSITORY}/manifests/{digest_of(manifest())}")
        assert refused.status == 405
        assert (await alice("DELETE", f"/v2/{REPOSITORY}/manifests/{digest_of(index(manifest()))}")).status == 202
        assert (await alice("DELETE", f"/v2/{REPOSITORY}/manifests/{digest_of(manifest())}")).status == 202

    async def test_a_blob_that_a_manifest_names_stays(self, alice: Client) -> None:
        await push_image(alice, manifest())
        url = f"/v2/{REPOSITORY}/blobs/{digest_of(b'{}')}"
        refused = await alice("DELETE", url)
        assert (refused.status, refused.code) == (405, "UNSUPPORTED")
        assert (await alice("GET", url)).body == b"{}"
        await alice("DELETE", f"/v2/{REPOSITORY}/manifests/{digest_of(manifest())}")
        assert (await alice("DELETE", url)).status == 202
        assert (await alice("HEAD", url)).status == 404


class TestRights:
    async def test_without_credentials_the_answer_says_where_to_get_a_token(self, node: Node) -> None:
        reply = await Client(node)("GET", f"/v2/{REPOSITORY}/manifests/v1")
        assert (reply.status, reply.code) == (401, "UNAUTHORIZED")
        realm = f'Bearer realm="http://{HOST}/service/token",service="harbor-registry"'
        assert reply["www-authenticate"] == f'{realm},scope="repository:{REPOSITORY}:pull"'
        pushing = await Client(node)("PUT", f"/v2/{REPOSITORY}/manifests/v1", b"{}")
        assert pushing["www-authenticate"] == f'{realm},scope="repository:{REPOSITORY}:pull,push"'
        assert (await Client(node)("GET", "/v2/"))["www-authenticate"] == realm

    async def test_a_head_without_credentials_is_asked_for_them_where_a_get_is_answered(
        self, node: Node, alice: Client
    ) -> None:
        # Docker keeps its credentials back until it is asked: a HEAD that anybody may would be answered as anybody's.
        project = REPOSITORY.partition("/")[0]
        with node.store.write() as transaction:
            transaction.put(PROJECT, project, {"metadata.public": "true"})
        await push_image(alice, manifest())
        for path in (f"/v2/{REPOSITORY}/manifests/v1", f"/v2/{REPOSITORY}/tags/list"):
            assert (await Client(node)("GET", path)).status == 200
            asked = await Client(node)("HEAD", path)
            assert (asked.status, asked.body) == (401, b"")
            assert asked["www-authenticate"].endswith(f'scope="repository:{REPOSITORY}:pull"')
            # With the token that anybody gets for the asking, it is answered.
            assert (await alice("HEAD", path)).status == 200

    async def test_the_root_without_its_slash_leads_to_the_root(self, node: Node) -> None:
        reply = await Client(node)("GET", "/v2")
        assert (reply.status, reply["location"]) == (301, "/v2/")

    @pytest.mark.parametrize("host", ['evil"', "a b", "x,y", "evil.example/path"])
    async def test_a_host_that_is_none_does_not_get_into_the_challenge(self, node: Node, host: str) -> None:
        reply = await Client(node)("GET", "/v2/", host=host)
        assert "127.0.0.1:80/service/token" in reply["www-authenticate"]

    async def test_a_guest_pulls_and_does_not_push(self, node: Node, alice: Client) -> None:
        await push_image(alice, manifest())
        guest = await node.client("guest", SCOPE)
        assert (await guest("GET", f"/v2/{REPOSITORY}/manifests/v1")).status == 200
        for method, path in (
            ("PUT", "manifests/v1"),
            ("DELETE", "manifests/v1"),
            ("POST", "blobs/uploads/"),
            ("DELETE", f"blobs/{digest_of(b'{}')}"),
        ):
            assert (await guest(method, f"/v2/{REPOSITORY}/{path}")).status == 401

    async def test_a_token_for_one_repository_opens_no_other(self, node: Node, alice: Client) -> None:
        await push_image(alice, manifest())
        elsewhere = await node.client("alice", "repository:team/elsewhere:pull,push,delete")
        assert (await elsewhere("GET", f"/v2/{REPOSITORY}/manifests/v1")).status == 401

    async def test_a_blob_of_another_repository_is_unknown_here(self, node: Node, alice: Client) -> None:
        await push_blob(alice, b"secret")
        second = await node.client("alice", "repository:team/second:pull,push")
        for method in ("HEAD", "GET"):
            assert (await second(method, f"/v2/team/second/blobs/{digest_of(b'secret')}")).status == 404
        naming = await push(second, manifest(b"secret"), "v1", "team/second")
        assert naming.code == "MANIFEST_BLOB_UNKNOWN"

    async def test_calling_it_a_layer_that_need_not_be_here_does_not_open_it(self, node: Node, alice: Client) -> None:
        await push_blob(alice, b"secret")
        second = await node.client("alice", "repository:team/second:pull,push")
        await push_blob(second, b"{}", "team/second")
        foreign = manifest(layers=(b"secret",)).replace(b"layer.v1.tar", b"layer.nondistributable.v1.tar")
        assert (await push(second, foreign, "v1", "team/second")).status == 201
        for method in ("HEAD", "GET"):
            assert (await second(method, f"/v2/team/second/blobs/{digest_of(b'secret')}")).status == 404
        assert (
            await second("POST", f"/v2/team/second/blobs/uploads/?mount={digest_of(b'secret')}&from=team/second")
        ).status == 202


class TestDurability:
    async def test_each_write_says_what_was_reached(self, alice: Client, durability: Recorded) -> None:
        assert (await push_blob(alice, b"{}"))["twinhull-durability"] == "metadata"
        assert (await push(alice, manifest(), "v1"))["twinhull-durability"] == "metadata"
        assert durability.asked[-1]["digest"] == digest_of(manifest())
        reply = await alice("DELETE", f"/v2/{REPOSITORY}/manifests/v1", twinhull_durability="full")
        assert reply["twinhull-durability"] == "full"
        seqs = [asked["seq"] for asked in durability.asked]
        assert seqs == sorted(seqs)
        assert len(set(seqs)) == 3

    async def test_a_level_that_is_missed_is_an_error_though_the_write_is_done(
        self, alice: Client, durability: Recorded
    ) -> None:
        await push_blob(alice, b"{}")
        durability.fails = True
        reply = await push(alice, manifest(), "v1")
        assert (reply.status, reply.code) == (503, "UNAVAILABLE")
        assert (await alice("GET", f"/v2/{REPOSITORY}/manifests/v1")).status == 200
