"""All fault scenarios: importing this puts them on the list."""

from __future__ import annotations

from tests.fault.scenarios import clocks, damage, deaths, disks, everything, fail_points, joins, links, rights, webhooks
from tests.fault.scenarios.registry import SCENARIOS

__all__ = [
    "SCENARIOS",
    "clocks",
    "damage",
    "deaths",
    "disks",
    "everything",
    "fail_points",
    "joins",
    "links",
    "rights",
    "webhooks",
]
