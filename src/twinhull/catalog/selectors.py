"""Selectors of rules: which repositories and which tags a rule is about, as Harbor's API writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from twinhull.kit.errors import Invalid
from twinhull.metadata.filtering import NUL

KIND: Final = "doublestar"
SELECTORS_MAX: Final = 100
_LENGTH_MAX: Final = 1024


class Selector(msgspec.Struct, frozen=True, omit_defaults=True):
    """Names that match a pattern, or do not: `doublestar`, `matches` or `excludes`, `v*`."""

    kind: str = ""
    decoration: str = ""
    pattern: str = ""
    extras: str = ""


def require_selectors(tags: Sequence[Selector], scopes: Mapping[str, Sequence[Selector]]) -> None:
    """Raise Invalid unless a rule can have these selectors of tags and, by what they are about, of other things."""
    if not tags:
        raise Invalid("TagSelectors Can not be empty")
    if not scopes:
        raise Invalid("ScopeSelectors Can not be empty")
    selectors = [*tags, *(one for group in scopes.values() for one in group)]
    if len(selectors) > SELECTORS_MAX:
        raise Invalid(f"only {SELECTORS_MAX} selectors are allowed at most")
    for one in selectors:
        if one.kind != KIND:
            raise Invalid(f"Kind Must match {KIND}")
        for name, value in (("Decoration", one.decoration), ("Pattern", one.pattern)):
            if not value:
                raise Invalid(f"{name} Can not be empty")
        if any(len(value) > _LENGTH_MAX or NUL in value for value in (one.decoration, one.pattern, one.extras)):
            raise Invalid(f"a selector is longer than {_LENGTH_MAX} characters, or no text")
