"""How fast bytes of blobs may go to which peer, and at what hours: `shanghai=5@08:00-18:00, *=50`."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from twinhull.kit.errors import SettingsInvalid

_MB: Final = 1_000_000
# Less would look to the peer as if nothing came any more.
_MB_MIN: Final = 0.05
_MINUTES_OF_DAY: Final = 24 * 60
_LIMIT: Final = re.compile(r"(?P<peer>[^=@,]+)=(?P<rate>\d+(?:\.\d+)?)(?:@(?P<since>\d\d:\d\d)-(?P<until>\d\d:\d\d))?")
_WAY_OUT: Final = (
    "write it as `PEER=MB_PER_SECOND@HH:MM-HH:MM`, the hours only if it shall not hold all day, `*` for every other peer"
)


class Limit(NamedTuple):
    """One peer's limit; from one minute of the day up to another, which may lie after midnight."""

    peer: str
    bytes_per_s: float
    since: int = 0
    until: int = _MINUTES_OF_DAY

    def holds_at(self, minute: int) -> bool:
        """Tell whether it holds at this minute of the day."""
        if self.since <= self.until:
            return self.since <= minute < self.until
        return minute >= self.since or minute < self.until


def parse_limits(text: str) -> tuple[Limit, ...]:
    """Return the limits that a text names, or raise SettingsInvalid."""
    return tuple(_parsed(part.strip()) for part in text.split(",") if part.strip())


def _parsed(part: str) -> Limit:
    found = _LIMIT.fullmatch(part)
    if found is None:
        raise SettingsInvalid(f"{part!r} is no bandwidth limit", hint=_WAY_OUT)
    if float(found["rate"]) < _MB_MIN:
        raise SettingsInvalid(
            f"{part!r}: a limit must be at least {_MB_MIN} MB/s", hint="`twinhull cluster pause` stops it all"
        )
    peer, rate = found["peer"].strip(), float(found["rate"]) * _MB
    if found["since"] is None:
        return Limit(peer, rate)
    return Limit(peer, rate, _minute(found["since"], part), _minute(found["until"], part))


def _minute(text: str, part: str) -> int:
    hours, minutes = int(text[:2]), int(text[3:])
    if hours * 60 + minutes > _MINUTES_OF_DAY or minutes > 59:
        raise SettingsInvalid(f"{part!r}: {text} is no time of day", hint=_WAY_OUT)
    return hours * 60 + minutes
