"""Which tags a project's immutability rules hold fast: such a tag is neither moved nor deleted, nor what it names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from twinhull.catalog.matching import matches
from twinhull.kit.errors import TagImmutable
from twinhull.kit.reference import project_of
from twinhull.metadata.accounts import Snapshot
from twinhull.metadata.documents import list_documents
from twinhull.metadata.statement import Statement
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import IMMUTABILITY

_ANY_RULE: Final = Statement("SELECT 1 FROM documents WHERE kind = :kind AND project = :project LIMIT 1")


@dataclass(frozen=True, slots=True)
class _Selector:
    pattern: str
    excludes: bool

    def selects(self, name: str) -> bool:
        return matches(self.pattern, name) is not self.excludes


@dataclass(frozen=True, slots=True)
class _Rule:
    repository: _Selector
    tag: _Selector


@dataclass(frozen=True, slots=True)
class Immutability:
    """The rules of a project that are in force."""

    rules: tuple[_Rule, ...] = ()

    def holds(self, repository: str, tag: str) -> bool:
        """Tell whether a tag of a repository of the project is immutable."""
        name = repository.partition("/")[2]
        return any(rule.repository.selects(name) and rule.tag.selects(tag) for rule in self.rules)


NO_RULES: Final = Immutability()


def rules_of(connection: Snapshot, project: str) -> Immutability:
    """Return the rules of a project."""
    found, _ = list_documents(connection, IMMUTABILITY, project=project)
    rules = [_rule(document.fields) for document in found if not document.fields.get("disabled")]
    return Immutability(tuple(rule for rule in rules if rule is not None))


def rules_for_writing(transaction: Transaction, repository: str) -> Immutability:
    """Return the same inside a writing transaction; next to nothing where there are no rules, as for most."""
    project = project_of(repository)
    if _ANY_RULE.first(transaction.connection, {"kind": IMMUTABILITY.name, "project": project}) is None:
        return NO_RULES
    return rules_of(transaction.connection, project)


def require_deletable(rules: Immutability, repository: str, tags: Iterable[str]) -> None:
    """Raise TagImmutable if one of the tags is held fast."""
    for tag in tags:
        if rules.holds(repository, tag):
            raise TagImmutable(f"the tag {tag} configured as immutable, cannot be deleted")


def _rule(fields: Mapping[str, Any]) -> _Rule | None:
    # Harbor reads the first selector of each kind.
    scopes = fields.get("scope_selectors")
    repository = _first(scopes.get("repository") if isinstance(scopes, Mapping) else None, excluding="repoExcludes")
    tag = _first(fields.get("tag_selectors"), excluding="excludes")
    return _Rule(repository, tag) if repository is not None and tag is not None else None


def _first(selectors: object, *, excluding: str) -> _Selector | None:
    if not isinstance(selectors, Sequence) or not selectors or not isinstance(selectors[0], Mapping):
        return None
    return _Selector(str(selectors[0].get("pattern") or ""), selectors[0].get("decoration") == excluding)
