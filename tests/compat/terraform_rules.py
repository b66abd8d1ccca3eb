"""The rules among the resources of Harbor's Terraform provider: replication, retention, immutability."""

from __future__ import annotations

from typing import Final

from tests.compat.terraform import DAILY, Ground, Json, Resource, only, without


def _replication_body(ground: Ground) -> Json:
    return {
        "name": ground.name("rule"),
        "description": "sends",
        "id": 0,
        "src_registry": {},
        "dest_registry": {"id": ground.registry_id},
        "dest_namespace": "copies",
        "dest_namespace_replace_count": 1,
        "trigger": {"type": "manual", "trigger_settings": {}},
        "enabled": True,
        "deletion": True,
        "override": True,
        "filters": [
            {"type": "name", "value": "library/**"},
            {"type": "tag", "value": "v*", "decoration": "matches"},
            {"type": "resource", "value": "image"},
        ],
        "speed": 512,
    }


def _replication_changes(ground: Ground) -> Json:
    return {
        "src_registry": {"id": ground.registry_id},
        "dest_registry": {},
        "dest_namespace_replace_count": -1,
        "trigger": {"type": "scheduled", "trigger_settings": {"cron": DAILY}},
        "enabled": False,
        "copy_by_chunk": True,
        "single_active_replication": True,
        "filters": [{"type": "label", "value": ["gold"], "decoration": "matches"}],
    }


def _replication_compared(body: Json) -> Json:
    sides = {side: body[side] for side in ("src_registry", "dest_registry") if body[side]}
    return {**without("id", "src_registry", "dest_registry", "trigger")(body), **sides, "trigger": _trigger(body["trigger"])}


def _trigger(trigger: Json) -> Json:
    return trigger if trigger["trigger_settings"] else {"type": trigger["type"]}


def _retention_rule(template: str, params: Json, tags: str, *, repositories: str = "**", untagged: str = "true") -> Json:
    return {
        "disabled": False,
        "action": "retain",
        "scope_selectors": {"repository": [{"kind": "doublestar", "decoration": "repoMatches", "pattern": repositories}]},
        "tag_selectors": [
            {"kind": "doublestar", "decoration": "matches", "pattern": tags, "extras": f'{{"untagged":{untagged}}}'}
        ],
        "params": params,
        "template": template,
    }


def _retention_body(ground: Ground) -> Json:
    return {
        "algorithm": "or",
        "rules": [_retention_rule("latestPushedK", {"latestPushedK": 5}, "**"), _retention_rule("always", {}, "release-*")],
        "trigger": {"kind": "Schedule", "references": {}, "settings": {"cron": DAILY}},
        "scope": {"level": "project", "ref": ground.project_id},
    }


def _retention_changes(_ground: Ground) -> Json:
    rule = _retention_rule("nDaysSinceLastPull", {"nDaysSinceLastPull": 9}, "v*", repositories="app/**", untagged="false")
    return {"rules": [rule], "trigger": {"kind": "Schedule", "references": {}, "settings": {"cron": ""}}}


def _retention_compared(body: Json) -> Json:
    trigger = {"kind": "Schedule", "settings": body["trigger"]["settings"]}
    return {**only("algorithm", "rules", "scope")(body), "trigger": trigger}


def _immutable_body(tags: str, repositories: str) -> Json:
    return {
        "disabled": False,
        "scope_selectors": {"repository": [{"kind": "doublestar", "decoration": "repoMatches", "pattern": repositories}]},
        "tag_selectors": [{"kind": "doublestar", "decoration": "matches", "pattern": tags}],
        "action": "immutable",
        "template": "immutable_template",
    }


def _immutable_changes(_ground: Ground) -> Json:
    changed = _immutable_body("v*", "app/**")
    changed["tag_selectors"][0]["decoration"] = "excludes"
    changed["scope_selectors"]["repository"][0]["decoration"] = "repoExcludes"
    return {**changed, "disabled": True}


REPLICATION: Final = Resource(
    path=lambda _ground: "/replication/policies",
    body=_replication_body,
    changes=_replication_changes,
    compared=_replication_compared,
)
IMMUTABLE: Final = Resource(
    path=lambda ground: f"{ground.project_path}/immutabletagrules",
    body=lambda _ground: _immutable_body("release-*", "**"),
    changes=_immutable_changes,
    is_listed=True,
)
RETENTION: Final = Resource(
    path=lambda _ground: "/retentions",
    body=_retention_body,
    changes=_retention_changes,
    compared=_retention_compared,
)
