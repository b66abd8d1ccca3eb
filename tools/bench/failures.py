"""How a bench fails: one class, with a sentence for whoever started it."""

from __future__ import annotations


class BenchFailed(Exception):
    """A server did not start, or did not answer as it must: there is nothing to measure."""
