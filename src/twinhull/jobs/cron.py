"""When something is due: cron expressions as Harbor has them, six fields that begin with the seconds. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from croniter import CroniterError, croniter

_LENGTH_MAX: Final = 256
# Seconds, minutes, hours, days, months, weekdays. What the library knows beyond that (years, random and hashed values, names
# such as @daily) Harbor does not take.
_FORM: Final = re.compile(r"[0-9*/,?-]+(?:\s+[0-9*/,?A-Za-z-]+){5}")
_WORDS: Final = re.compile(r"jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat", re.IGNORECASE)
_LETTER: Final = re.compile(r"[A-Za-z]")
# A date that does not come within these years, as the 31st of February, never does.
_YEARS_MAX: Final = 10


def is_cron(text: str) -> bool:
    """Tell whether that is an expression that will be due sometime."""
    return next_ms(text, 0) is not None


def next_ms(text: str, after_ms: int) -> int | None:
    """Return when the expression is due next after a moment, in milliseconds since 1970; None for never or no expression."""
    if len(text) > _LENGTH_MAX or not _FORM.fullmatch(text.strip()) or _LETTER.search(_WORDS.sub("", text)):
        return None
    after = datetime.fromtimestamp(after_ms / 1000, tz=UTC)
    try:
        moments = croniter(text, after, second_at_beginning=True, max_years_between_matches=_YEARS_MAX)
        following: datetime = moments.get_next(datetime)
    except CroniterError:
        return None
    return int(following.timestamp() * 1000)


def last_ms(text: str, before_ms: int) -> int | None:
    """Return when the expression was due last, at a moment or before it, in milliseconds; None for never or no expression."""
    if next_ms(text, before_ms) is None:
        return None
    moments = croniter(
        text,
        datetime.fromtimestamp(before_ms // 1000 + 1, tz=UTC),
        second_at_beginning=True,
        max_years_between_matches=_YEARS_MAX,
    )
    try:
        previous: datetime = moments.get_prev(datetime)
    except CroniterError:
        return None
    return int(previous.timestamp() * 1000)
