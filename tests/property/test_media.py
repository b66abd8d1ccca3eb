"""Whatever is pushed as a manifest, the answer is its content or ManifestInvalid, and what is said of it is true of it."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from twinhull.catalog.media import MANIFEST_TYPES, OCI_IMAGE, OCI_INDEX, parse_manifest
from twinhull.kit.digest import digest_of
from twinhull.kit.errors import ManifestInvalid

MEDIA_TYPES = st.sampled_from(
    [
        *sorted(MANIFEST_TYPES),
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.empty.v1+json",
    ]
)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
CONTENTS = st.binary(max_size=40)


@st.composite
def descriptors(draw: st.DrawFn) -> dict[str, object]:
    content = draw(CONTENTS)
    described: dict[str, object] = {
        "mediaType": draw(MEDIA_TYPES),
        "digest": digest_of(content, draw(st.sampled_from(["sha256", "sha512"]))),
        "size": len(content),
    }
    if draw(st.booleans()):
        described["annotations"] = draw(st.dictionaries(TEXT, TEXT, max_size=3))
    return described


@st.composite
def documents(draw: st.DrawFn) -> dict[str, object]:
    document: dict[str, object] = {"schemaVersion": 2, "annotations": draw(st.dictionaries(TEXT, TEXT, max_size=3))}
    listed = draw(st.lists(descriptors(), max_size=6))
    if draw(st.booleans()):
        document |= {"mediaType": OCI_INDEX, "manifests": listed}
    else:
        document |= {"mediaType": OCI_IMAGE, "layers": listed, "config": draw(descriptors())}
    if draw(st.booleans()):
        document["subject"] = draw(descriptors())
    return document


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=15,
)


@given(documents())
def test_every_descriptor_is_found_in_one_of_the_two_lists(document: dict[str, object]) -> None:
    parsed = parse_manifest(json.dumps(document).encode(), str(document["mediaType"]))
    contents = [*parsed.layers, *parsed.children, *([parsed.config] if parsed.config else [])]
    assert {it.digest for it in contents} == {*parsed.blobs, *parsed.manifests}
    assert set(parsed.required_blobs) <= set(parsed.blobs)
    assert parsed.annotations == document["annotations"]


@given(documents(), st.data())
def test_one_broken_place_is_a_clean_refusal_or_still_a_manifest(document: dict[str, object], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(document)))
    document[name] = data.draw(JSON)
    with contextlib.suppress(ManifestInvalid):
        parse_manifest(json.dumps(document).encode(), data.draw(st.sampled_from(["", OCI_IMAGE, OCI_INDEX])))


@given(st.binary(max_size=200), st.text(max_size=40))
def test_garbage_is_a_clean_refusal(content: bytes, content_type: str) -> None:
    with contextlib.suppress(ManifestInvalid):
        parse_manifest(content, content_type)


@given(documents())
def test_what_is_cut_short_is_refused(document: dict[str, object]) -> None:
    whole = json.dumps(document).encode()
    for end in range(0, len(whole), max(1, len(whole) // 20)):
        with contextlib.suppress(ManifestInvalid):
            parse_manifest(whole[:end], str(document["mediaType"]))
            raise AssertionError(f"taken when cut at {end}")
