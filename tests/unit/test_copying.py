"""Artifacts are copied whole, in an order that destinations take, and nothing is sent twice."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.sides import MemoryRegistry
from twinhull.kit.clock import ManualClock
from twinhull.kit.digest import Digest, digest_of
from twinhull.kit.errors import Denied, Unavailable
from twinhull.mirror.copying import Copying, Order
from twinhull.mirror.selection import Candidate

SOURCE: Final = "library/app"
TARGET: Final = "mirror/app"


class Scene:
    """Two registries, and what copies from one to the other."""

    def __init__(self, *, override: bool = False, exact: bool = False, speed_kb: int = 0) -> None:
        self.source, self.target = MemoryRegistry(), MemoryRegistry()
        self.lines: list[str] = []
        self.clock = ManualClock()
        order = Order(source=SOURCE, destination=TARGET, override=override, exact=exact, speed_kb=speed_kb)
        self.copying = Copying(self.source, self.target, order, log=self.lines.append, clock=self.clock, pause=self._pause)

    async def _pause(self, seconds: float) -> None:
        self.clock.advance(round(seconds * 1000))

    @property
    def log(self) -> str:
        """What was written."""
        return "\n".join(self.lines)


async def test_an_image_is_copied_with_its_blobs_before_it() -> None:
    scene = Scene()
    digest = scene.source.push_image(SOURCE, "one", "v1", "v2")
    await scene.copying.copy(Candidate(digest=digest, tags=("v1", "v2")))
    assert scene.target.manifests[TARGET, digest] == scene.source.manifests[SOURCE, digest]
    assert scene.target.tags == {(TARGET, "v1"): digest, (TARGET, "v2"): digest}
    assert [line.split()[0] for line in scene.target.book] == ["blob", "blob", "blob", "manifest", "manifest"]
    figures = scene.copying.figures
    assert (figures.artifacts, figures.blobs, figures.skipped) == (1, 3, 0)
    assert figures.bytes == sum(len(content) for content in scene.source.blobs.values())
    assert f"(v1, v2) copied: {figures.bytes} bytes" in scene.log


async def test_what_is_there_already_is_not_sent_again() -> None:
    scene = Scene()
    digest = scene.source.push_image(SOURCE, "one", "v1")
    candidate = Candidate(digest=digest, tags=("v1",))
    await scene.copying.copy(candidate)
    scene.target.book.clear()
    await scene.copying.copy(candidate)
    await scene.copying.copy(Candidate(digest=digest))
    assert scene.target.book == []
    assert scene.copying.figures.skipped == 2


async def test_a_new_tag_of_what_is_there_moves_no_blob() -> None:
    scene = Scene()
    digest = scene.source.push_image(SOURCE, "one", "v1", "latest")
    await scene.copying.copy(Candidate(digest=digest, tags=("v1",)))
    scene.target.book.clear()
    await scene.copying.copy(Candidate(digest=digest, tags=("v1", "latest")))
    assert scene.target.book == [f"manifest {digest} latest"]


async def test_blobs_that_are_there_are_not_sent() -> None:
    scene = Scene()
    digest = scene.source.push_image(SOURCE, "one", "v1")
    scene.target.push_blob(TARGET, "layer of one")
    await scene.copying.copy(Candidate(digest=digest, tags=("v1",)))
    assert f"blob {digest_of(b'layer of one')}" not in scene.target.book
    assert scene.copying.figures.blobs == 2


async def test_a_tag_that_names_something_else_is_moved_only_with_override() -> None:
    for override in (False, True):
        scene = Scene(override=override)
        digest = scene.source.push_image(SOURCE, "one", "v1")
        other = scene.target.push_image(TARGET, "other", "v1")
        await scene.copying.copy(Candidate(digest=digest, tags=("v1",)))
        assert scene.target.tags[TARGET, "v1"] == (digest if override else other)
        assert ("does not override" in scene.log) is not override
        assert (scene.target.book == []) is not override


async def test_an_index_comes_after_its_children() -> None:
    scene = Scene()
    children = [scene.source.push_image(SOURCE, text) for text in ("amd64", "arm64")]
    index = scene.source.push_index(SOURCE, children, "multi")
    await scene.copying.copy(Candidate(digest=index, tags=("multi",)))
    assert [line for line in scene.target.book if line.startswith("manifest")] == [
        *(f"manifest {child}" for child in children),
        f"manifest {index} multi",
    ]


async def test_an_untagged_artifact_is_copied_under_its_digest() -> None:
    scene = Scene()
    digest = scene.source.push_image(SOURCE, "one")
    await scene.copying.copy(Candidate(digest=digest))
    assert (TARGET, digest) in scene.target.manifests
    assert scene.target.tags == {}


async def test_signatures_come_along_also_when_the_image_is_there() -> None:
    scene = Scene()
    digest = scene.source.push_image(SOURCE, "one", "v1")
    candidate = Candidate(digest=digest, tags=("v1",))
    await scene.copying.copy(candidate)
    signature = scene.source.push_image(SOURCE, "signature", "sha256-x.sig", subject=digest)
    of_signature = scene.source.push_image(SOURCE, "signature of the signature", subject=signature)
    await scene.copying.copy(candidate)
    assert scene.target.tags[TARGET, "sha256-x.sig"] == signature
    assert (TARGET, of_signature) in scene.target.manifests


async def test_signatures_stay_where_their_image_may_not_go() -> None:
    scene = Scene()
    digest = scene.source.push_image(SOURCE, "one", "v1")
    scene.source.push_image(SOURCE, "signature", subject=digest)
    scene.target.push_image(TARGET, "other", "v1")
    await scene.copying.copy(Candidate(digest=digest, tags=("v1",)))
    assert scene.target.book == []


async def test_what_an_event_tells_of_is_not_copied_when_the_tag_has_moved_on() -> None:
    scene = Scene(exact=True, override=True)
    old = scene.source.push_image(SOURCE, "one", "v1")
    scene.source.push_image(SOURCE, "two", "v1")
    await scene.copying.copy(Candidate(digest=old, tags=("v1",)))
    assert scene.target.tags == {}
    assert "names something else by now" in scene.log


async def test_what_is_gone_meanwhile_is_no_failure() -> None:
    scene = Scene()
    await scene.copying.copy(Candidate(digest="sha256:" + "0" * 64, tags=("v1",)))
    assert scene.target.book == []
    assert "not at the source any more" in scene.log


async def test_a_failure_that_passes_is_told_before_one_that_stays() -> None:
    scene = Scene()
    digest = scene.source.push_image(SOURCE, "one", "v1")
    scene.target.failing = {
        digest_of(b"config of one"): Denied("no"),
        digest_of(b"layer of one"): Unavailable("not now"),
        digest_of(b"second layer of one"): Denied("no"),
    }
    with pytest.raises(Unavailable, match="not now"):
        await scene.copying.copy(Candidate(digest=digest, tags=("v1",)))
    assert (TARGET, digest) not in scene.target.manifests


async def test_a_speed_limit_is_kept_by_all_blobs_of_a_task_together() -> None:
    scene = Scene(speed_kb=1)
    scene.source.push_blob(SOURCE, "x" * 3000)
    digest = scene.source.push_image(SOURCE, "y" * 1000, "v1")
    began_s = scene.clock.monotonic_s()
    await scene.copying.copy(Candidate(digest=digest, tags=("v1",)))
    took_s = scene.clock.monotonic_s() - began_s
    assert took_s >= scene.copying.figures.bytes / 1000 - 0.1
    assert took_s > 3.0


# -- deletions -----------------------------------------------------------------------------------------------------


async def _copied(scene: Scene) -> Digest:
    digest = scene.source.push_image(SOURCE, "one", "v1", "v2")
    await scene.copying.copy(Candidate(digest=digest, tags=("v1", "v2")))
    scene.target.book.clear()
    return digest


async def test_a_deleted_tag_is_deleted_alone() -> None:
    scene = Scene()
    digest = await _copied(scene)
    del scene.source.tags[SOURCE, "v1"]
    await scene.copying.delete(Candidate(digest=digest, tags=("v1",)))
    assert scene.target.tags == {(TARGET, "v2"): digest}
    assert (TARGET, digest) in scene.target.manifests


async def test_a_deleted_artifact_goes_by_its_digest() -> None:
    scene = Scene()
    digest = await _copied(scene)
    newer = scene.target.push_image(TARGET, "newer", "v1")
    await scene.source.delete(SOURCE, digest)
    await scene.copying.delete(Candidate(digest=digest))
    assert scene.target.tags == {(TARGET, "v1"): newer}
    await scene.copying.delete(Candidate(digest=digest))
    assert "nothing to delete" in scene.log


async def test_what_was_pushed_again_since_is_not_deleted() -> None:
    scene = Scene()
    digest = await _copied(scene)
    await scene.copying.delete(Candidate(digest=digest, tags=("v1",)))
    await scene.copying.delete(Candidate(digest=digest))
    assert scene.target.book == []


async def test_a_tag_that_names_something_else_there_is_not_deleted() -> None:
    for override in (False, True):
        scene = Scene(override=override)
        digest = await _copied(scene)
        other = scene.target.push_image(TARGET, "other", "v1")
        del scene.source.tags[SOURCE, "v1"]
        await scene.copying.delete(Candidate(digest=digest, tags=("v1",)))
        assert scene.target.tags[TARGET, "v1"] == other
        assert "names something else at the destination: kept" in scene.log
