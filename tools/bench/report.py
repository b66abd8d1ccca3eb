"""What came out: kept by measure and server, told while it comes in, and shown at the end as a table or as JSON."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Final

from tools.bench.metrics import Metric

_NOTHING: Final = "–"


def say(text: str) -> None:
    """Tell how it goes, without mixing with the results."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Book:
    """All values that were measured."""

    def __init__(self, servers: Sequence[str], tell: Callable[[str], None] = say) -> None:
        """Take the servers' names in the order of the columns, and whom to tell."""
        self._servers = list(servers)
        self._tell = tell
        self._values: dict[tuple[Metric, str], list[float]] = {}

    def note(self, metric: Metric, server: str, value: float) -> None:
        """Keep one value."""
        self._values.setdefault((metric, server), []).append(value)
        quantity = metric.value
        self._tell(f"  {server}: {quantity.title}: {value:.{quantity.digits}f} {quantity.unit}")

    def table(self) -> str:
        """Return the table: a row for each thing measured, a column for each server, the median and in brackets the best."""
        heads = ["", "", *self._servers, "budget"]
        rows = [self._row(metric) for metric in Metric if self._measured(metric)]
        widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
        lines = []
        before = ""
        for row in (heads, *rows):
            # The title stands once over all units of one measure.
            title, before = ("" if row[0] == before else row[0]), row[0]
            cells = [title.ljust(widths[0]), row[1].ljust(widths[1])]
            cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
            lines.append("  ".join(cells).rstrip())
        return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])

    def document(self) -> list[dict[str, object]]:
        """Return all values, for programs to read."""
        return [
            {
                "measure": metric.name.lower(),
                "title": metric.value.title,
                "unit": metric.value.unit,
                "server": server,
                "budget": metric.value.budget,
                "median": statistics.median(values),
                "best": _best(metric, values),
                "values": values,
            }
            for metric in Metric
            for server in self._servers
            if (values := self._values.get((metric, server)))
        ]

    def _measured(self, metric: Metric) -> bool:
        return any((metric, server) in self._values for server in self._servers)

    def _row(self, metric: Metric) -> list[str]:
        quantity = metric.value
        cells = [self._cell(metric, self._values.get((metric, server), ())) for server in self._servers]
        sign = "≥" if quantity.more_is_better else "≤"
        budget = "" if quantity.budget is None else f"{sign} {quantity.budget:g}"
        return [quantity.title, quantity.unit, *cells, budget]

    def _cell(self, metric: Metric, values: Sequence[float]) -> str:
        if not values:
            return _NOTHING
        digits = metric.value.digits
        median = f"{statistics.median(values):,.{digits}f}"
        return median if len(values) == 1 else f"{median} ({_best(metric, values):,.{digits}f})"


def _best(metric: Metric, values: Sequence[float]) -> float:
    return max(values) if metric.value.more_is_better else min(values)
