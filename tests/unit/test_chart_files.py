"""What charts say of themselves in YAML: read as JSON has it, and harmless whatever somebody wrote there."""

from __future__ import annotations

from typing import Final

import pytest

from twinhull.catalog.charts import VALUES_MAX, dependencies_of, metadata_of, values_of
from twinhull.kit.errors import Invalid

HEAD: Final = b"name: app\nversion: 1.0.0\n"
# Nine lists, each of ten times the one before.
MULTIPLIED: Final = b"l0: &l0 x\n" + b"".join(
    b"l%d: &l%d [%s]\n" % (number, number, b", ".join([b"*l%d" % (number - 1)] * 10)) for number in range(1, 10)
)
MERGED: Final = b"m0: &m0 {a: 1}\n" + b"".join(
    b"m%d: &m%d {<<: [%s]}\n" % (number, number, b", ".join([b"*m%d" % (number - 1)] * 10)) for number in range(1, 10)
)
HARMFUL: Final = {
    "multiplied": MULTIPLIED,
    "merged": MERGED,
    "endless": b"a: &a [*a]\n",
    "anchored twice": b"b: [&a x, &a [*a]]\n",
    # A parser written in C would take the whole process with it.
    "deep": b"a: " + b"[" * 200_000,
    "many": b"a: [" + b"1," * VALUES_MAX + b"]\n",
    "no such day": b"a: 2024-99-99\n",
    "no text": b"a: \xff\n",
}


@pytest.mark.parametrize("content", HARMFUL.values(), ids=HARMFUL.keys())
def test_harmful_yaml_is_refused_in_a_chart_and_left_out_of_its_values(content: bytes) -> None:
    with pytest.raises(Invalid):
        metadata_of({"Chart.yaml": HEAD + content})
    with pytest.raises(Invalid):
        dependencies_of({"Chart.yaml": HEAD, "requirements.yaml": content})
    assert values_of({"Chart.yaml": HEAD, "values.yaml": content}) == {}


def test_values_are_told_by_their_paths() -> None:
    values = b"""
image: &image {tag: v1, pull: true}
other: {<<: *image, day: 2024-02-03}
list: [1, {a: *image}]
none:
empty: {}
1.5: x
"""
    assert values_of({"values.yaml": values}) == {
        "image.tag": "v1",
        "image.pull": True,
        "other.tag": "v1",
        "other.pull": True,
        "other.day": "2024-02-03",
        "list": [1, {"a": {"tag": "v1", "pull": True}}],
        "none": None,
        "empty": {},
        "1.5": "x",
    }
    assert values_of({}) == values_of({"values.yaml": b"- a list\n"}) == {}


def test_chart_says_what_it_is_and_needs() -> None:
    files = {
        "Chart.yaml": HEAD + b"released: 2024-02-03\n",
        "requirements.yaml": b"dependencies: [{name: db, version: 1}, x]\n",
    }
    assert metadata_of(files) == {"apiVersion": "v1", "name": "app", "version": "1.0.0", "released": "2024-02-03"}
    assert dependencies_of(files) == [{"name": "db", "version": "1", "repository": ""}]
