"""What a push asks of a project's usage is found by an index, however many other projects have the same content."""

from __future__ import annotations

import pytest

from tests.support.metadata import Opened
from twinhull.metadata.projections import usage
from twinhull.metadata.statement import Statement

WANTED = {"digest": "d", "repository": "team/app", "manifest": "", "first": "team/", "beyond": "team0"}


@pytest.mark.parametrize("opened", ["sqlite"], indirect=True)
@pytest.mark.parametrize("statement", [usage.LINK_ELSEWHERE, usage.NAMED_ELSEWHERE, usage.MANIFEST_ELSEWHERE])
def test_what_is_elsewhere_in_a_project_is_looked_for_among_its_own_names(opened: Opened, statement: Statement) -> None:
    with opened.database.write() as connection:
        plan = Statement("EXPLAIN QUERY PLAN " + statement.sql).all(connection, WANTED)

    assert all("repository>? AND repository<?" in row[3] for row in plan), plan
