"""Retention policies: what may be in them, as Harbor's API writes them. Pure; what they would delete is not decided here."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from twinhull.catalog.selectors import Selector, require_selectors
from twinhull.jobs.cron import is_cron
from twinhull.kit.errors import Conflict, Invalid

RULES_MAX: Final = 15
ALGORITHM: Final = "or"
SCHEDULE: Final = "Schedule"
PROJECT: Final = "project"
# By template: what clients show, and the unit of its one parameter; None for a template without.
TEMPLATES: Final = {
    "latestPushedK": ("the most recently pushed # artifacts", "COUNT"),
    "latestPulledN": ("the most recently pulled # artifacts", "COUNT"),
    "nDaysSinceLastPush": ("pushed within the last # days", "DAYS"),
    "nDaysSinceLastPull": ("pulled within the last # days", "DAYS"),
    "always": ("always", None),
}
# Taken as well, and shown to nobody who asks what there is.
_OLDER_TEMPLATES: Final = ("latestActiveK", "lastXDays", "nothing")


class Rule(msgspec.Struct, omit_defaults=True):
    """What to keep of which tags in which repositories."""

    id: int = 0
    priority: int = 0
    disabled: bool = False
    action: str = ""
    template: str = ""
    params: dict[str, Any] = {}
    tag_selectors: list[Selector] = []
    scope_selectors: dict[str, list[Selector]] = {}


class Trigger(msgspec.Struct):
    """When a policy is carried out: by a cron expression, or with an empty one by hand."""

    kind: str = ""
    settings: dict[str, Any] = {}


class Scope(msgspec.Struct):
    """What a policy is for: a project, by its id."""

    level: str = ""
    ref: int = 0


class Policy(msgspec.Struct):
    """A retention policy."""

    id: int = 0
    algorithm: str = ""
    rules: list[Rule] = []
    trigger: Trigger | None = None
    scope: Scope | None = None


def pulled_within(days: int) -> dict[str, Any]:
    """Return the fields of a policy that keeps what was pulled within so many days, and is carried out every midnight."""
    anything = {"kind": "doublestar", "pattern": "**"}
    rule = {
        "id": 1,
        "priority": 1,
        "action": "retain",
        "template": "nDaysSinceLastPull",
        "params": {"nDaysSinceLastPull": days},
        "tag_selectors": [{**anything, "decoration": "matches"}],
        "scope_selectors": {"repository": [{**anything, "decoration": "repoMatches"}]},
    }
    return {
        "algorithm": ALGORITHM,
        "rules": [rule],
        "trigger": {"kind": SCHEDULE, "settings": {"cron": "0 0 0 * * *"}},
    }


def require_policy(policy: Policy) -> Scope:
    """Return what a policy is for; raises Invalid for one that can't be, Conflict for two rules that are the same."""
    if policy.scope is None or policy.trigger is None:
        raise Invalid("bad request: a retention policy must have a scope and a trigger")
    if policy.scope.level != PROJECT:
        raise Invalid(f"bad request: scope {policy.scope.level[:64]} is not support")
    if len(policy.rules) > RULES_MAX:
        raise Invalid(f"bad request: only {RULES_MAX} rules are allowed at most")
    _require_trigger(policy.trigger)
    seen: dict[bytes, int] = {}
    for number, rule in enumerate(policy.rules):
        _require_rule(rule)
        rule.id = 0
        earlier = seen.setdefault(msgspec.json.encode(rule, order="deterministic"), number)
        if earlier != number:
            raise Conflict(f"rule {number} is conflict with rule {earlier}")
    for number, rule in enumerate(policy.rules):
        rule.id = number
    return policy.scope


def _require_trigger(trigger: Trigger) -> None:
    if trigger.kind != SCHEDULE:
        raise Invalid(f"bad request: trigger {trigger.kind[:64]!r} is not supported")
    cron = trigger.settings.get("cron", "")
    if not isinstance(cron, str):
        raise Invalid("invalid cron type for scheduled tag retention: must be a string")
    if cron and not is_cron(cron):
        raise Invalid(f"invalid cron string for scheduled tag retention: {cron[:64]}")


def _require_rule(rule: Rule) -> None:
    if rule.action != "retain":
        raise Invalid(f"bad request: action {rule.action[:64]!r} is not supported")
    if rule.template not in TEMPLATES and rule.template not in _OLDER_TEMPLATES:
        raise Invalid(f"bad request: template {rule.template[:64]!r} is not supported")
    for name, value in rule.params.items():
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if name == rule.template and not is_count:
            raise Invalid(f"bad request: {name[:64]} must be a whole number of at least 0")
    require_selectors(rule.tag_selectors, rule.scope_selectors)
