"""Cron expressions as Harbor has them: the seconds first, and nothing that Harbor does not take."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from twinhull.jobs.cron import is_cron, next_ms

START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("0 0 0 * * 0", datetime(2026, 1, 4, tzinfo=UTC)),
        ("0 0 0 ? * SUN", datetime(2026, 1, 4, tzinfo=UTC)),
        ("0 0 0 1 1 *", datetime(2027, 1, 1, tzinfo=UTC)),
        ("30 */5 * * * *", datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC)),
        ("0 0 2-4 * jan,feb mon-fri", datetime(2026, 1, 1, 2, tzinfo=UTC)),
    ],
)
def test_expression_is_due_at_its_next_moment(text: str, due: datetime) -> None:
    assert next_ms(text, START) == int(due.timestamp() * 1000)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bad",
        "* * * * *",
        "0 0 0 * * * *",
        "0 0 25 * * *",
        "0 0 0 31 2 *",
        "@daily",
        "R R R * * *",
        "0 0 0 L * *",
        "0 0 0 * * MON#1",
        "0 0 0 * * " + "1," * 200 + "1",
    ],
)
def test_what_is_no_expression_or_never_due_is_told(text: str) -> None:
    assert not is_cron(text)
