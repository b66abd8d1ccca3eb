"""Everything that the bench measures: its name, its unit, what is better, and which budget it is held to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One row of the table."""

    title: str
    unit: str
    more_is_better: bool = False
    # What Twinhull is held to, whatever the machine; None where only the comparison counts.
    budget: float | None = None
    digits: int = 0


def _speed(title: str) -> Quantity:
    return Quantity(title=title, unit="MB/s", more_is_better=True)


def _cost(title: str, budget: float | None = None) -> Quantity:
    return Quantity(title=title, unit="CPU-s per GB", budget=budget, digits=2)


def _rate(title: str, unit: str = "per second") -> Quantity:
    return Quantity(title=title, unit=unit, more_is_better=True)


class Metric(Enum):
    """The rows, in the order of the table."""

    PUSH_ONE = _speed("blob push, 1 stream")
    PUSH_ONE_CPU = _cost("blob push, 1 stream", 1.8)
    PUSH_EIGHT = _speed("blob push, 8 streams")
    PUSH_EIGHT_CPU = _cost("blob push, 8 streams", 1.8)
    PUSH_PATCH = _speed("blob push, PATCH and PUT apart")
    PUSH_PATCH_CPU = _cost("blob push, PATCH and PUT apart", 1.8)
    PULL_ONE = _speed("blob pull, 1 stream")
    PULL_ONE_CPU = _cost("blob pull, 1 stream")
    PULL_EIGHT = _speed("blob pull, 8 streams")
    PULL_EIGHT_CPU = _cost("blob pull, 8 streams")
    MANIFEST_GET = _rate("manifest GET, 16 connections")
    MANIFEST_GET_CPU = Quantity(title="manifest GET, 16 connections", unit="µs CPU each", budget=100)
    MANIFEST_HEAD = _rate("manifest HEAD, 16 connections")
    MANIFEST_HEAD_CPU = Quantity(title="manifest HEAD, 16 connections", unit="µs CPU each", budget=100)
    IMAGES = _rate("small images, 8 clients", "images/s")
    IMAGES_CPU = Quantity(title="small images, 8 clients", unit="ms CPU each", digits=1)
    IMAGES_TWO = _rate("small images, two nodes", "images/s")
    IMAGES_TWO_CPU = Quantity(title="small images, two nodes", unit="ms CPU each", digits=1)
    IMAGES_TWO_REACHED = Quantity(title="small images, two nodes", unit="% at metadata", more_is_better=True, budget=100)
    PAIR_PUSH = _speed("image push to node a, 8 streams")
    PAIR_LAG = Quantity(title="from its 201 to all bytes on node b", unit="s", budget=0.5, digits=3)
    PAIR_CPU_A = _cost("that push, node a")
    PAIR_CPU_B = _cost("that push, node b")
    PAIR_PULLED = Quantity(title="pull from b right after the 201", unit="% whole", more_is_better=True, budget=100)
    PAIR_FIRST_BYTE = Quantity(title="its slowest first byte", unit="ms", budget=50, digits=1)
    PAIR_PULL = _speed("its throughput")
    MEMORY_IDLE = Quantity(title="memory, idle", unit="MB PSS", budget=250)
    MEMORY_UPLOADS = Quantity(title="memory, 64 uploads add", unit="MB PSS", budget=200)
