"""Harbor's `q`, `sort` and pages, as they are read."""

from __future__ import annotations

import pytest

from twinhull.harbor.queries import CONDITIONS_MAX, VALUES_MAX, parse_q, parse_sort
from twinhull.kit.errors import Invalid
from twinhull.metadata.filtering import AllOf, AnyOf, Condition, Exact, Fuzzy, Range

NO_CONDITION = 'the query string must contain "=" and the key/value cannot be empty'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("name=app", {"name": Exact("app")}),
        ("name=a=b", {"name": Exact("a=b")}),
        ("Level=project,ProjectID=7", {"level": Exact("project"), "projectid": Exact("7")}),
        ("project_id=7", {"projectid": Exact("7")}),
        ("name=~app", {"name": Fuzzy("app")}),
        ("name=~", {"name": Fuzzy("")}),
        ("name='~app'", {"name": Exact("~app")}),
        ("id=[1~9]", {"id": Range("1", "9")}),
        ("id=[~9],name=x", {"id": Range("", "9"), "name": Exact("x")}),
        ("op_time=[2020-01-01 00:00:00~2099-01-01 00:00:00]", {"optime": Range("2020-01-01 00:00:00", "2099-01-01 00:00:00")}),
        ("tags={v1 v2}", {"tags": AnyOf(("v1", "v2"))}),
        ('tags={"v1" v2}', {"tags": AnyOf(("v1", "v2"))}),
        ("labels=(1 2)", {"labels": AllOf(("1", "2"))}),
        ("labels=(1,2),type=IMAGE", {"labels": AllOf(("1", "2")), "type": Exact("IMAGE")}),
        ("tags={}", {"tags": AnyOf(())}),
        ("tags%3Dnil", {"tags": Exact("nil")}),
        ("a=1,a=2", {"a": Exact("2")}),
    ],
)
def test_conditions_are_read(text: str, found: dict[str, Condition]) -> None:
    assert parse_q(text) == found


@pytest.mark.parametrize("text", ["bogus", "=", "=x", "name=", ",", "name=a,", "name=a,bogus", "name=a,,b=c"])
def test_what_is_no_condition_is_refused_in_harbors_words(text: str) -> None:
    with pytest.raises(Invalid, match=NO_CONDITION):
        parse_q(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id=[1~9", r'range must start with "\[" and end with "\]"'),
        ("id=[1-9]", 'range must contain "~"'),
        ("id=[~]", "min and max at least one should be set in range"),
        ("tags={a b", 'or list must start with "{" and end with "}"'),
        ("tags=(a b", r'and list must start with "\(" and end with "\)"'),
        ("tags={", "or list must"),
    ],
)
def test_pattern_that_is_not_closed_is_refused(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse_q(text)


def test_what_would_make_a_huge_statement_is_refused() -> None:
    with pytest.raises(Invalid, match="more than 100 conditions"):
        parse_q(",".join(f"k{number}=1" for number in range(CONDITIONS_MAX + 1)))
    with pytest.raises(Invalid, match="more than 500 values"):
        parse_q(f"tags={{{' '.join(str(number) for number in range(VALUES_MAX + 1))}}}")


def test_sort_is_read() -> None:
    assert parse_sort("-update_time, name,,-") == (("updatetime", True), ("name", False))
    assert parse_sort("") == ()
