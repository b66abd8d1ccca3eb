"""What a resource is to Harbor's Terraform provider: what it sends, and what of the answer it compares with its plan.

Go's encoder shows in the bodies: members that are not set are empty objects, zeros and zero times, not left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

ZERO_TIME: Final = "0001-01-01T00:00:00Z"
GIGABYTE: Final = 1024**3
DAILY: Final = "0 0 0 * * *"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What resources hang on: made before them, with names of its own."""

    token: str
    project_id: int
    project: str
    user: str
    group: str
    registry_id: int
    registry_url: str

    def name(self, kind: str) -> str:
        """Return a name that no other run uses."""
        return f"{kind}-{self.token}"

    @property
    def project_path(self) -> str:
        """Return the project as the provider names it."""
        return f"/projects/{self.project_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A kind of resource that is made by a POST, and read, changed and deleted where the answer's Location says."""

    path: Callable[[Ground], str]
    body: Callable[[Ground], Json]
    changes: Callable[[Ground], Json]
    # What the provider compares; the rest of the body it never reads, secrets first of all.
    compared: Callable[[Json], Json] = dict
    # Not with each kind does a second request need what the first was given.
    is_changed_whole: bool = True
    # Nothing is there to be read by itself: it is looked for in the list.
    is_listed: bool = False


def only(*names: str) -> Callable[[Json], Json]:
    """Return what picks these members of a body."""
    return lambda body: {name: body[name] for name in names}


def without(*names: str) -> Callable[[Json], Json]:
    """Return what leaves these members of a body out."""
    return lambda body: {name: value for name, value in body.items() if name not in names}


def assert_shown(expected: object, shown: object, where: str = "") -> None:
    """Fail unless everything expected is shown; more may be, in objects alone. To Go what is not there is false, 0 or empty."""
    if isinstance(expected, Mapping):
        assert isinstance(shown, Mapping), f"{where}: {shown!r}"
        for name, value in expected.items():
            assert name in shown or not value, f"{where}/{name} is not shown: {shown}"
            assert_shown(value, shown.get(name, value), f"{where}/{name}")
    elif isinstance(expected, list):
        assert isinstance(shown, list), f"{where}: {shown!r}"
        assert len(shown) == len(expected), f"{where}: {shown!r}, not {expected!r}"
        for place, (one, other) in enumerate(zip(expected, shown, strict=True)):
            assert_shown(one, other, f"{where}/{place}")
    else:
        assert (type(shown), shown) == (type(expected), expected), f"{where}: {shown!r}, not {expected!r}"
