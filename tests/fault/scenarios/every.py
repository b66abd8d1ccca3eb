"""All fault scenarios: importing this puts them on the list."""

from __future__ import annotations

from tests.fault.scenarios import links
from tests.fault.scenarios.registry import SCENARIOS

__all__ = ["SCENARIOS", "links"]
