"""Filters, order and parts of lists, on both databases: what a client writes finds what it says, and does nothing else."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from twinhull.harbor.queries import parse_q, parse_sort
from twinhull.kit.errors import Invalid
from twinhull.metadata.filtering import Fields, Slice, Wanted, count
from twinhull.metadata.store import Store
from twinhull.metadata.tables.accounts import users
from twinhull.metadata.tables.columns import upsert

_DAY_MS: Final = 86_400_000
_FIELDS: Final = Fields(
    {
        "username": users.c.name,
        "id": users.c.id,
        "email": users.c.email,
        "sysadmin": users.c.sysadmin,
        "creation_time": users.c.created_ms,
    },
    order=(users.c.name.asc(),),
)
_NAMES: Final = ("Ada", "bob", "c%d", "d_e", "e'f", "eve")


@pytest.fixture
def people(store: Store) -> Store:
    """A store with users in its table: ids 1, 2, …, a day between each."""
    with store.write() as transaction:
        for number, name in enumerate(_NAMES, start=1):
            row: dict[str, Any] = {column.name: column.type.python_type() for column in users.columns}
            row |= {"name": name, "id": number, "email": f"{name}@x.io", "sysadmin": number == 1, "disabled": False}
            upsert(users).run(transaction.connection, row | {"created_ms": number * _DAY_MS, "updated_ms": 0})
    return store


def found(store: Store, q: str, *, sort: str = "", part: Slice | None = None) -> list[str]:
    wanted = Wanted(conditions=parse_q(q), order=parse_sort(sort))
    with store.read() as connection:
        query = _FIELDS.select(select(users.c.name), wanted)
        names = [row[0] for row in connection.execute((part or Slice()).of(query))]
        if part is None:
            assert count(connection, query) == len(names)
    return names


@pytest.mark.parametrize(
    ("q", "names"),
    [
        ("", list(_NAMES)),
        ("username=bob", ["bob"]),
        ("username=Bob", []),
        ("UserName=bob", ["bob"]),
        ("username=~B", ["bob"]),
        ("username=~a", ["Ada"]),
        ("username=~%", ["c%d"]),
        ("username=~_", ["d_e"]),
        ("username=~'", ["e'f"]),
        ("username={bob eve nobody}", ["bob", "eve"]),
        ("username={}", []),
        ("id=2", ["bob"]),
        ("id=~2", ["bob"]),
        ("id=[2~3]", ["bob", "c%d"]),
        ("id=[5~]", ["e'f", "eve"]),
        ("id={1 6}", ["Ada", "eve"]),
        ("sysadmin=true", ["Ada"]),
        ("sysadmin={true false}", list(_NAMES)),
        ("creation_time=[1970-01-03 00:00:00~1970-01-04T00:00:00Z]", ["bob", "c%d"]),
        ("creation_time=[~1970-01-02]", ["Ada"]),
        ("nosuch=1", list(_NAMES)),
        ("id=(1 2)", list(_NAMES)),
        ("username=bob,id=1", []),
        ("username=x' OR '1'='1", []),
        ("username=bob\x00", []),
        ("username=~\x00", []),
        ("username=[\x00~]", []),
        ("username={\x00 bob}", ["bob"]),
    ],
)
def test_filter_finds_what_it_says(people: Store, q: str, names: list[str]) -> None:
    assert found(people, q) == names


@pytest.mark.parametrize(
    "q", ["id=x", "id=99999999999999999999", "id=[a~b]", "id={1 b}", "sysadmin=maybe", "sysadmin=[true~]", "creation_time=now"]
)
def test_value_that_the_column_cannot_have_is_refused(people: Store, q: str) -> None:
    with pytest.raises(Invalid):
        found(people, q)


def test_order_is_what_is_asked_for_and_the_default_settles_ties(people: Store) -> None:
    assert found(people, "", sort="-id") == list(reversed(_NAMES))
    assert found(people, "", sort="sysadmin,nosuch,-id") == [*reversed(_NAMES[1:]), "Ada"]
    assert found(people, "", sort="-sysadmin") == list(_NAMES)
    assert found(people, "", sort="id;DROP TABLE users") == list(_NAMES)
    assert found(people, "", sort="-id", part=Slice(offset=1, limit=2)) == ["e'f", "d_e"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(["username", "email", "id", "creation_time", "sysadmin"]), value=st.text(min_size=1, max_size=20))
def test_no_value_breaks_the_statement(people: Store, key: str, value: str) -> None:
    """Whatever is asked for, it is found, not found or refused; the users are there afterwards."""
    with contextlib.suppress(Invalid):
        assert set(found(people, f"{key}={value}")) <= set(_NAMES)
    assert found(people, "") == list(_NAMES)
