"""What a replication policy picks, and what it is called on the other side, by Harbor's rules. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from twinhull.catalog.matching import matches, names_of
from twinhull.kit.errors import Invalid

_EXCLUDES: Final = "excludes"
# These resources stand for all artifacts; any other for those of its type.
_EVERY_TYPE: Final = ("", "artifact")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An artifact that a policy may pick."""

    digest: str
    tags: tuple[str, ...] = ()
    labels: frozenset[str] = frozenset()
    # IMAGE, CHART and the like; what registries hold that do not tell is taken for images, as in Harbor.
    type: str = ""

    @property
    def items(self) -> int:
        """For how many items it stands in counts: one for each tag, one if it has none."""
        return len(self.tags) or 1


class Selection:
    """The filters of a policy."""

    def __init__(self, filters: Sequence[Mapping[str, Any]]) -> None:
        """Take the filters as the policy keeps them; they have been checked."""
        self._names = [str(one.get("value") or "") for one in filters if one.get("type") == "name"]
        self._others = [one for one in filters if one.get("type") != "name" and one.get("value")]

    @property
    def repositories(self) -> tuple[str, ...] | None:
        """The only repositories that it can pick from, where the filters name them; None: the source has to list its own."""
        named = [names for pattern in self._names if (names := names_of(pattern)) is not None]
        return tuple(name for name in named[0] if self.takes(name)) if named else None

    @property
    def projects(self) -> tuple[str, ...] | None:
        """The only projects that it can pick from, in the same sense."""
        for pattern in self._names:
            first, slash, _ = pattern.partition("/")
            names = names_of(first) if slash else None
            if names is not None and "{" not in first:
                return names
        named = self.repositories
        return None if named is None else tuple(dict.fromkeys(name.partition("/")[0] for name in named))

    def takes(self, repository: str) -> bool:
        """Tell whether it may pick from a repository."""
        return all(matches(pattern, repository) for pattern in self._names)

    def pick(self, candidate: Candidate) -> Candidate | None:
        """Return the artifact with those of its tags that are picked, or None."""
        picked: Candidate | None = candidate
        for one in self._others:
            if picked is not None:
                picked = _passed(one, picked)
        return picked


def _passed(one: Mapping[str, Any], candidate: Candidate) -> Candidate | None:
    value, excludes = one["value"], one.get("decoration") == _EXCLUDES
    if one["type"] == "resource":
        return candidate if value in _EVERY_TYPE or candidate.type == str(value).upper() else None
    if one["type"] == "label":
        return candidate if (candidate.labels >= set(value)) is not excludes else None
    if not candidate.tags:
        return candidate if matches(value, "") is not excludes else None
    tags = tuple(tag for tag in candidate.tags if matches(value, tag) is not excludes)
    return replace(candidate, tags=tags) if tags else None


def destination_of(repository: str, namespace: str, replace_count: int) -> str:
    """Return the repository's name at the destination; raises Invalid where it has too few parts for the namespace.

    The namespace takes the place of so many leading parts; of all but the last where the count is negative.
    """
    if not namespace:
        return repository
    *leading, last = repository.split("/")
    if replace_count > len(leading):
        raise Invalid(
            f"the repository {repository} has {len(leading)} parts before its name, and the policy's namespace replaces"
            f" {replace_count}",
            hint="lower dest_namespace_replace_count",
        )
    kept = [] if replace_count < 0 else leading[replace_count:]
    return "/".join([namespace.strip("/"), *kept, last])


def resource_name(repository: str, items: int) -> str:
    """Return what Harbor shows of a task's repository."""
    return f"{repository} [{items} item(s) in total]"
