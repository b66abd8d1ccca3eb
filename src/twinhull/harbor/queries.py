"""Harbor's lists: `q=`, `sort=`, `page=` and `page_size=` read into what the metadata's lists take.

`q=k=v,k=~part,k=[low~high],k={a b},k=(a b)`: exact, fuzzy, range, any of, all of. Keys that a list does not know are
passed over there, as in Harbor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from starlette.requests import Request

from twinhull.harbor.requests import Paging, read_paging
from twinhull.kit.errors import Invalid
from twinhull.metadata.filtering import AllOf, AnyOf, Condition, Exact, Fuzzy, Range, Slice, Wanted, plain

CONDITIONS_MAX: Final = 100
VALUES_MAX: Final = 500
_NO_CONDITION: Final = 'the query string must contain "=" and the key/value cannot be empty'
# In brackets a comma is part of the value.
_ONE: Final = re.compile(r"([^=,]+)=(\[[^\]]*\]|\{[^}]*\}|\([^)]*\)|[^,]+)(?:,(?=.)|$)")
_SEPARATORS: Final = re.compile(r"[\s,]+")
_CLOSING: Final = {"[": "]", "{": "}", "(": ")"}
_NAMES: Final = {"[": "range", "{": "or list", "(": "and list"}


# Plain keys, each with whether it descends.
Order = tuple[tuple[str, bool], ...]
NEWEST_FIRST: Final[Order] = (("id", True),)
OLDEST_FIRST: Final[Order] = (("id", False),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """What a list is asked for."""

    wanted: Wanted
    paging: Paging

    @property
    def part(self) -> Slice:
        """The page as the metadata's lists take it."""
        return self.paging.part


def read_query(
    request: Request, *, legacy: bool = False, order: Order = (), by_name: bool = False, lenient: bool = False
) -> ListQuery:
    """Return what the list is asked for; raises Invalid for a `q` that can't be read, and what read_paging raises.

    `order` holds where the request names none; `by_name` says that the list takes `name=` for a part of the name as well;
    `lenient`, that Harbor 2.2 had no `q` there and took no offence at any.
    """
    try:
        conditions = parse_q(request.query_params.get("q", ""))
    except Invalid:
        if not lenient:
            raise
        conditions = {}
    name = request.query_params.get("name", "") if by_name else ""
    if name:
        conditions[plain("name")] = Fuzzy(name)
    wanted = Wanted(conditions=conditions, order=parse_sort(request.query_params.get("sort", "")) or order)
    return ListQuery(wanted=wanted, paging=read_paging(request, legacy=legacy))


def parse_q(text: str) -> dict[str, Condition]:
    """Return the conditions by plain key, or raise Invalid."""
    # Some clients escape the value once more than they have to.
    left = unquote(text).strip()
    found: dict[str, Condition] = {}
    while left:
        one = _ONE.match(left)
        if one is None:
            raise Invalid(_NO_CONDITION)
        key, value = plain(one[1]), one[2].strip()
        if not key or not value:
            raise Invalid(_NO_CONDITION)
        found[key] = _condition(value)
        if len(found) > CONDITIONS_MAX:
            raise Invalid(f"the query string has more than {CONDITIONS_MAX} conditions")
        left = left[one.end() :]
    return found


def parse_sort(text: str) -> Order:
    """Return the plain keys to sort by, each with whether it is to descend: `-update_time,name`."""
    keys = (key.strip() for key in text.split(","))
    return tuple((plain(key.removeprefix("-")), key.startswith("-")) for key in keys if key.removeprefix("-").strip())


def _condition(value: str) -> Condition:
    opening = value[0]
    if opening == "~":
        return Fuzzy(value[1:])
    if opening not in _CLOSING:
        return Exact(_unquoted(value))
    if not value.endswith(_CLOSING[opening]) or len(value) == 1:
        raise Invalid(f'{_NAMES[opening]} must start with "{opening}" and end with "{_CLOSING[opening]}"')
    return _range(value[1:-1]) if opening == "[" else _list(opening, value[1:-1])


def _range(text: str) -> Range:
    low, between, high = text.partition("~")
    found = Range(_unquoted(low.strip()), _unquoted(high.strip()))
    if not between:
        raise Invalid('range must contain "~"')
    if not found.low and not found.high:
        raise Invalid("min and max at least one should be set in range")
    return found


def _list(opening: str, text: str) -> AnyOf | AllOf:
    values = tuple(_unquoted(value) for value in _SEPARATORS.split(text) if value)
    if len(values) > VALUES_MAX:
        raise Invalid(f"the query string has a list of more than {VALUES_MAX} values")
    return AnyOf(values) if opening == "{" else AllOf(values)


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value
