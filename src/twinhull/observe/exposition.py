"""Prometheus' text format, version 0.0.4: samples in, text out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from twinhull.observe.families import BUCKETS_S, QUANTILES, Family

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Sample(NamedTuple):
    """One line: what is added to the family's name, labels and the figure."""

    labels: tuple[tuple[str, str], ...]
    value: float
    suffix: str = ""


def render(families: Iterable[tuple[Family, Sequence[Sample]]]) -> str:
    """Return the text for these families; one without samples is left out."""
    lines: list[str] = []
    for family, samples in families:
        if not samples:
            continue
        lines.append(f"# HELP {family.name} {family.doc}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines.extend(f"{family.name}{sample.suffix}{_labels(sample.labels)} {_number(sample.value)}" for sample in samples)
    return "\n".join(lines) + "\n" if lines else ""


def histogram_samples(labels: tuple[tuple[str, str], ...], counts: Sequence[int], total_s: float) -> list[Sample]:
    """Return the series of a histogram from the count in each bucket, the last being all above the highest bound."""
    samples = []
    so_far = 0
    for bound, count in zip((*BUCKETS_S, float("inf")), counts, strict=True):
        so_far += count
        samples.append(Sample((*labels, ("le", _number(bound))), so_far, "_bucket"))
    return [*samples, Sample(labels, total_s, "_sum"), Sample(labels, so_far, "_count")]


def summary_samples(
    labels: tuple[tuple[str, str], ...], counts: Sequence[int], total_s: float, recent: Sequence[int]
) -> list[Sample]:
    """Return the series of a summary: sum and count of all, quantiles estimated from the recent bucket counts."""
    samples = [Sample((*labels, ("quantile", _number(share))), quantile(recent, share)) for share in QUANTILES]
    return [*samples, Sample(labels, total_s, "_sum"), Sample(labels, sum(counts), "_count")]


def quantile(counts: Sequence[int], share: float) -> float:
    """Return the value that this share of the observations stays below, taken to lie evenly in a bucket; NaN if none."""
    wanted = sum(counts) * share
    if not wanted:
        return float("nan")
    so_far = 0
    below = 0.0
    for bound, count in zip(BUCKETS_S, counts, strict=False):
        if count and so_far + count >= wanted:
            return below + (bound - below) * (wanted - so_far) / count
        so_far += count
        below = bound
    return BUCKETS_S[-1]


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels) + "}"


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        return "NaN"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
