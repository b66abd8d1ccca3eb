"""Tags that an immutability rule holds are neither moved nor deleted, by no way in."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.support.accounts import AccountsNode, Api, make_project, site
from tests.support.stored import OCI_CONFIG, OCI_IMAGE, Part, push, push_blob
from twinhull.records.kinds import TAG, tag_key

__all__ = ["site"]

PATH: Final = "/projects/library/repositories/imm%252Fapp"
LIST: Final = f"{PATH}/artifacts"
RULES: Final = "/projects/library/immutabletagrules"


def rule(tags: str, repositories: str = "imm/**", *, excludes: bool = False, **more: object) -> dict[str, Any]:
    return {
        "disabled": False,
        "action": "immutable",
        "template": "immutable_template",
        "scope_selectors": {"repository": [{"kind": "doublestar", "decoration": "repoMatches", "pattern": repositories}]},
        "tag_selectors": [{"kind": "doublestar", "decoration": "excludes" if excludes else "matches", "pattern": tags}],
        **more,
    }


async def try_push(api: Api, tag: str, config: object, repository: str = "library/imm/app") -> tuple[int, str]:
    """Push an image and return the status of its manifest and what was said."""
    part = Part(content=json.dumps(config).encode(), media_type=OCI_CONFIG)
    await push_blob(api, repository, part.content)
    manifest = {"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": part.descriptor(), "layers": []}
    reply = await api("PUT", f"/v2/{repository}/manifests/{tag}", manifest, content_type=OCI_IMAGE)
    return reply.status, reply.json()["errors"][0]["message"] if reply.status >= 400 else ""


class TestImmutability:
    async def test_tag_is_not_moved_and_a_new_one_is_made(self, site: AccountsNode) -> None:
        await try_push(site.admin, "rel-1", {"n": 1})
        await try_push(site.admin, "dev", {"n": 1})
        number = await site.admin.create(RULES, rule("rel-*"))
        refused = "Failed to process request due to 'library/imm/app:rel-1' configured as immutable."
        assert await try_push(site.admin, "rel-1", {"n": 2}) == (412, refused)
        assert (await try_push(site.admin, "dev", {"n": 2}))[0] == 201
        assert (await try_push(site.admin, "rel-2", {"n": 2}))[0] == 201
        # Elsewhere the same name is nobody's business.
        for n in (1, 2):
            assert (await try_push(site.admin, "rel-1", {"n": n}, "library/other"))[0] == 201
        # Pushing the same once more, as a client does that lost the answer, moves nothing.
        assert (await try_push(site.admin, "rel-1", {"n": 1}))[0] == 201
        await site.admin.ok(200, "PUT", f"{RULES}/{number}", rule("rel-*", disabled=True, id=number))
        assert (await try_push(site.admin, "rel-1", {"n": 2}))[0] == 201

    async def test_refusal_comes_before_the_question_what_is_missing(self, site: AccountsNode) -> None:
        await try_push(site.admin, "rel-1", {"n": 1})
        await site.admin.create(RULES, rule("rel-*"))
        missing = Part(content=b"never pushed", media_type=OCI_CONFIG)
        manifest = {"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": missing.descriptor(), "layers": []}
        reply = await site.admin("PUT", "/v2/library/imm/app/manifests/rel-1", manifest, content_type=OCI_IMAGE)
        assert reply.status == 412

    async def test_nothing_deletes_it(self, site: AccountsNode) -> None:
        await try_push(site.admin, "rel-1", {"n": 1})
        await try_push(site.admin, "dev", {"n": 2})
        await site.admin.create(RULES, rule("rel-*"))
        shown = await site.admin.ok(200, "GET", f"{LIST}/rel-1")
        said = "the tag rel-1 configured as immutable, cannot be deleted"
        for path in (
            PATH,
            f"{LIST}/rel-1",
            f"{LIST}/{shown['digest']}",
            f"{LIST}/rel-1/tags/rel-1",
            f"/v2/library/imm/app/manifests/{shown['digest']}",
        ):
            reply = await site.admin("DELETE", path)
            assert (reply.status, reply.json()["errors"][0]["message"]) == (412, said), path
        # Distribution 1.1 has two answers for tags that can't be deleted: 400 and 405.
        by_tag = await site.admin("DELETE", "/v2/library/imm/app/manifests/rel-1")
        assert (by_tag.status, by_tag.json()["errors"][0]) == (400, {"code": "UNSUPPORTED", "message": said})
        # All or nothing: the repository's other artifacts are there still.
        assert len(await site.admin.ok(200, "GET", LIST)) == 2
        await site.admin.ok(200, "DELETE", f"{LIST}/dev")

    async def test_copies_do_not_move_it_either(self, site: AccountsNode) -> None:
        await try_push(site.admin, "rel-1", {"n": 1})
        await try_push(site.admin, "rel-1", {"n": 2}, "library/other")
        await site.admin.create(RULES, rule("rel-*"))
        assert (await site.admin("POST", f"{LIST}?from=library%2Fother%3Arel-1")).status == 412
        assert len(await site.admin.ok(200, "GET", LIST)) == 1

    async def test_rules_may_exclude_and_are_each_projects_own(self, site: AccountsNode) -> None:
        await make_project(site.admin, "team")
        await site.admin.create(RULES, rule("dev*", "**", excludes=True))
        for n in (1, 2):
            assert (await try_push(site.admin, "dev1", {"n": n}))[0] == 201
            assert (await try_push(site.admin, "v1", {"n": n}, "team/app"))[0] == 201
        assert (await try_push(site.admin, "v1", {"n": 1}))[0] == 201
        assert (await try_push(site.admin, "v1", {"n": 2}))[0] == 412

    async def test_status_is_shown_where_it_is_asked_for(self, site: AccountsNode) -> None:
        await try_push(site.admin, "rel-1", {"n": 1})
        await site.admin.ok(201, "POST", f"{LIST}/rel-1/tags", {"name": "dev"})
        await site.admin.create(RULES, rule("rel-*"))
        for path in (f"{LIST}/dev/tags", LIST, f"{LIST}/dev"):
            for query, expected in (("", False), ("?with_immutable_status=true", True)):
                found = await site.admin.ok(200, "GET", path + query)
                tags = found if path.endswith("/tags") else (found[0] if isinstance(found, list) else found)["tags"]
                assert {tag["name"]: tag["immutable"] for tag in tags} == {"dev": False, "rel-1": expected}

    async def test_tag_bears_the_mark_that_decides_between_nodes(self, site: AccountsNode) -> None:
        await site.admin.create(RULES, rule("rel-*"))
        await push(site.admin, "library/imm/app", "rel-1")
        await push(site.admin, "library/imm/app", "dev")
        with site.store.write() as transaction:
            marks = {}
            for tag in ("rel-1", "dev"):
                values: Any = transaction.values(TAG, tag_key("library/imm/app", tag))
                marks[tag] = values["target"]["immutable"]
        assert marks == {"rel-1": True, "dev": False}
