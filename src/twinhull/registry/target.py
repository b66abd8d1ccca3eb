"""What a path under /v2/ names."""

from __future__ import annotations

from typing import NamedTuple


class Target(NamedTuple):
    """A repository by its valid name, and a tag, digest or upload id in it, as it stands in the path."""

    repository: str
    reference: str
