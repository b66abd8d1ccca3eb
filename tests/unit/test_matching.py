"""Patterns of rules match what doublestar's do, and none takes long."""

from __future__ import annotations

import pytest

from twinhull.catalog.matching import matches


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("", "anything", True),
        ("v1", "v1", True),
        ("v1", "v10", False),
        ("v*", "v1.0", True),
        ("*", "", True),
        ("*", "a/b", False),
        ("**", "a/b", True),
        ("**", "v1", True),
        ("imm/**", "imm/x", True),
        ("imm/**", "imm/x/y", True),
        ("imm/**", "immx", False),
        ("**/app", "app", True),
        ("**/app", "a/b/app", True),
        ("**/app", "a/myapp", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a**b", "axxb", True),
        ("a**b", "ax/xb", False),
        ("**/a*b", "x/a/ab", True),
        ("rel-?", "rel-1", True),
        ("rel-?", "rel-10", False),
        ("?", "/", False),
        ("[0-9]*", "1.0", True),
        ("[0-9]*", "v1", False),
        ("[^0-9]*", "v1", True),
        ("[!a]", "a", False),
        ("[^a]", "/", False),
        ("[]a]", "]", True),
        ("v[0-9].[0-9]", "v1.2", True),
        ("{dev,test}-*", "test-1", True),
        ("{dev,test}-*", "prod-1", False),
        ("{a,b{c,d}}", "bd", True),
        ("{a,b{c,d}}", "b", False),
        ("v{,-rc}", "v", True),
        (r"a\*", "a*", True),
        (r"a\*", "ab", False),
        (r"\{a,b\}", "{a,b}", True),
        ("**", "", True),
        # What is no pattern matches nothing.
        ("[a", "a", False),
        ("{a", "a", False),
        ("a\\", "a", False),
    ],
)
def test_pattern_matches_what_doublestars_does(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


@pytest.mark.parametrize(
    "pattern", ["*a" * 200 + "b", "**/a*" * 100 + "b", "{a,b}" * 40, "{" * 300 + "a" + "}" * 300, "{a,b,c}" * 5 + "*"]
)
def test_no_pattern_takes_long(pattern: str) -> None:
    matches(pattern, "a" * 128)
