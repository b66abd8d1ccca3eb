"""What a process remembers of users, robots, projects, settings and keys, and what each change in the log makes it forget."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, Final

from joserfc.jwk import OKPKey

from twinhull.auth.subjects import ProjectFacts, Subject
from twinhull.kit.reference import project_of

# Each of the caches holds at most this many; when full it starts anew, which costs one query an entry.
ENTRIES_MAX: Final = 20_000


class AccountCaches:
    """Filled by whoever reads the database; emptied by what the log tells. Used on one event loop."""

    def __init__(self) -> None:
        """Remember nothing."""
        self.subjects: dict[str, Subject | None] = {}
        self.projects: dict[str, ProjectFacts] = {}
        self.settings: dict[str, object] = {}
        self.keys: dict[str, OKPKey] | None = None
        # Counts what was called back: an answer that was read from the database before a change must not be kept after it.
        self.generation = 0
        self._on_keys_changed: list[Callable[[], None]] = []
        self._forgetters: dict[str, Callable[[str], None]] = {
            "user": self._forget_user,
            "user_group": self._forget_group,
            "robot": self._forget_robot,
            "project": self._forget_project,
            "member": self._forget_member,
            "manifest": self._forget_if_revived,
            "setting": self._forget_settings,
            "node": self._forget_node,
        }

    def on_keys_changed(self, forget: Callable[[], None]) -> None:
        """Have `forget` called when the keys of the nodes are forgotten."""
        self._on_keys_changed.append(forget)

    def on_change(self, kind: str, key: str) -> None:
        """Forget what a change of this record makes doubtful."""
        forget = self._forgetters.get(kind)
        if forget is not None:
            forget(key)

    def _forget_user(self, name: str) -> None:
        self.generation += 1
        self.subjects.pop(name, None)
        # They may have come into a group, or out of one.
        for facts in self.projects.values():
            facts.roles.pop(name, None)

    def _forget_group(self, _key: str) -> None:
        self.generation += 1
        self.projects.clear()

    def _forget_robot(self, key: str) -> None:
        self.generation += 1
        # They are cached by what people call them, and the prefix may have changed since.
        for name in [name for name in self.subjects if name.endswith(key)]:
            del self.subjects[name]

    def _forget_project(self, name: str) -> None:
        self.generation += 1
        self.projects.pop(name, None)
        # Its robots live and die with it, and the system's robots may have lost or found it.
        doubtful = [
            robot
            for robot, found in self.subjects.items()
            if f"{name}+" in robot or (found is not None and found.is_robot and not found.project)
        ]
        for robot in doubtful:
            del self.subjects[robot]

    def _forget_member(self, key: str) -> None:
        self.generation += 1
        self.projects.pop(project_of(key), None)

    def _forget_if_revived(self, key: str) -> None:
        project = project_of(key)
        facts = self.projects.get(project)
        if facts is None or (facts.exists and not facts.revived):
            return
        self._forget_project(project)

    def _forget_settings(self, _name: str) -> None:
        self.generation += 1
        self.settings.clear()
        self.subjects.clear()

    def _forget_node(self, _node: str) -> None:
        self.generation += 1
        self._forget_keys()

    def on_reset(self) -> None:
        """Forget everything."""
        self.generation += 1
        self.subjects.clear()
        self.projects.clear()
        self.settings.clear()
        self._forget_keys()

    def _forget_keys(self) -> None:
        self.keys = None
        for forget in self._on_keys_changed:
            forget()


def keep(cache: MutableMapping[str, Any], name: str, value: object) -> None:
    """Put something into one of the caches."""
    if len(cache) >= ENTRIES_MAX:
        cache.clear()
    cache[name] = value
