"""What a resource is to Harbor's Terraform provider: what it sends, and what of the answer it compares with its plan.

Go's encoder shows in the bodies: members that are not set are empty objects, zeros and zero times, not left out.
"""

from __future__ import annotations

from collections.abc import Callable
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
