"""Each kind of resource of Harbor's Terraform provider, with a plan for it and a change of the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.compat.terraform import GIGABYTE, ZERO_TIME, Ground, Json, Resource, only, without
from tests.compat.terraform_rules import IMMUTABLE, REPLICATION


def _project_body(ground: Ground) -> Json:
    metadata = {
        "enable_content_trust": "false",
        "enable_content_trust_cosign": "false",
        "auto_scan": "true",
        "severity": "low",
        "reuse_sys_cve_allowlist": "true",
        "public": "true",
        "prevent_vul": "false",
        "auto_sbom_generation": "false",
        "proxy_speed_kb": "-1",
        "proxy_cache_local_on_not_found": "false",
    }
    return {"project_name": ground.name("tf"), "cve_allowlist": {}, "storage_limit": 5 * GIGABYTE, "metadata": metadata}


def _project_changes(_ground: Ground) -> Json:
    metadata = {
        "enable_content_trust": "true",
        "enable_content_trust_cosign": "true",
        "auto_scan": "false",
        "severity": "high",
        "reuse_sys_cve_allowlist": "false",
        "public": "false",
        "prevent_vul": "true",
        "auto_sbom_generation": "true",
        "proxy_speed_kb": "-1",
        "proxy_cache_local_on_not_found": "false",
    }
    return {"cve_allowlist": {"items": [{"cve_id": "CVE-2024-1"}, {"cve_id": "CVE-2024-2"}]}, "metadata": metadata}


def _project_compared(body: Json) -> Json:
    # What is of proxy caches alone may be left out: the provider takes that for its defaults.
    metadata = {name: value for name, value in body["metadata"].items() if not name.startswith("proxy_")}
    allowed = {"items": body["cve_allowlist"].get("items", [])}
    return {"name": body["project_name"], "metadata": metadata, "cve_allowlist": allowed}


def _user_body(ground: Ground) -> Json:
    name = ground.name("tf")
    return {
        "username": name,
        "password": "Terraform-1",
        "new_password": "Terraform-1",
        "realname": "Terra Form",
        "email": f"{name}@example.com",
    }


def _webhook_body(ground: Ground) -> Json:
    target = {
        "type": "http",
        "auth_header": "Bearer of-the-hook",
        "skip_cert_verify": True,
        "address": "https://hooks.example.com/a",
        # The provider's name of it is a slip of the pen: nothing that Harbor knows.
        "payload_format:omitempty": "",
    }
    return {
        "update_time": ZERO_TIME,
        "description": "tells",
        "creator": "",
        "creation_time": ZERO_TIME,
        "enabled": True,
        "targets": [target],
        "event_types": ["PUSH_ARTIFACT", "DELETE_ARTIFACT"],
        "project_id": 0,
        "id": 0,
        "name": ground.name("hook"),
    }


def _webhook_changes(ground: Ground) -> Json:
    body = _webhook_body(ground)
    target = {**body["targets"][0], "address": "https://hooks.example.com/b", "auth_header": "", "skip_cert_verify": False}
    return {"targets": [target], "enabled": False, "event_types": ["PULL_ARTIFACT"], "description": ""}


def _webhook_compared(body: Json) -> Json:
    targets = [without("payload_format:omitempty")(target) for target in body["targets"]]
    return {**only("name", "description", "enabled", "event_types")(body), "targets": targets}


def _robot_body(ground: Ground, level: str) -> Json:
    access = [{"action": "pull", "resource": "repository"}, {"action": "push", "resource": "repository", "effect": "allow"}]
    permissions = [{"access": access, "kind": "project", "namespace": ground.project}]
    if level == "system":
        permissions += [
            {"access": [{"action": "list", "resource": "project"}], "kind": "system", "namespace": "/"},
            {"access": [{"action": "pull", "resource": "repository"}], "kind": "project", "namespace": "*"},
        ]
    return {
        "name": ground.name("robot"),
        "level": level,
        "description": "builds",
        "duration": 30,
        "permissions": permissions,
    }


def _robot_changes(ground: Ground, level: str) -> Json:
    permissions = _robot_body(ground, level)["permissions"][1 if level == "system" else 0 :]
    permissions[0]["access"] = permissions[0]["access"][:1]
    return {"description": "pulls", "duration": -1, "disable": True, "permissions": permissions}


def _robot_compared(body: Json) -> Json:
    def access(one: Mapping[str, Any]) -> Json:
        return {
            "kind": one["kind"],
            "namespace": one["namespace"],
            "access": [only("action", "resource")(it) for it in one["access"]],
        }

    return {**without("name", "permissions")(body), "permissions": [access(one) for one in body["permissions"]]}


def _registry_body(ground: Ground) -> Json:
    return {
        "credential": {"access_key": "admin", "access_secret": "Harbor12345", "type": "basic"},
        "name": ground.name("registry"),
        "url": ground.registry_url,
        "insecure": True,
        "type": "harbor",
        "description": "the other master",
    }


def _registry_compared(body: Json) -> Json:
    key = body["access_key"] if "access_key" in body else body["credential"]["access_key"]
    return {**only("name", "url", "insecure", "description")(body), "credential": {"access_key": key}, "type": "harbor"}


def _registry_changes(ground: Ground) -> Json:
    return {
        "access_key": "admin",
        "access_secret": "Harbor12345",
        "name": ground.name("registry2"),
        "url": ground.registry_url,
        "insecure": False,
        "description": "",
        "ca_certificate": "",
    }


def _preheat_body(ground: Ground) -> Json:
    return {
        "id": 0,
        "name": ground.name("net"),
        "description": "warms",
        "vendor": "dragonfly",
        "endpoint": "http://127.0.0.1:9",
        "auth_mode": "BASIC",
        "auth_info": {"username": "u", "password": "Secret-of-the-net"},
        "status": "",
        "enabled": True,
        "default": False,
        "insecure": True,
        "setup_timestamp": 0,
    }


_PREHEAT_CHANGES: Final = {"description": "", "auth_mode": "NONE", "auth_info": {}, "enabled": False, "insecure": False}
_LABEL: Final = {"description": "fine", "color": "#00FF00", "deleted": False, "project_id": 0, "id": 0}
_LABEL_CHANGES: Final = {"description": "finest", "color": "#0000FF"}
_LABEL_COMPARED: Final = only("name", "description", "color", "scope")

RESOURCES: Final[Mapping[str, Resource]] = {
    "harbor_project": Resource(
        path=lambda _ground: "/projects",
        body=_project_body,
        changes=_project_changes,
        compared=_project_compared,
    ),
    "harbor_project_member_user": Resource(
        path=lambda ground: f"{ground.project_path}/members",
        body=lambda ground: {"role_id": 2, "member_group": {}, "member_user": {"username": ground.user}},
        changes=lambda _ground: {"role_id": 4},
        compared=lambda body: {"role_id": body["role_id"], "entity_name": body["member_user"]["username"], "entity_type": "u"},
    ),
    "harbor_project_member_group": Resource(
        path=lambda ground: f"{ground.project_path}/members",
        body=lambda ground: {"role_id": 3, "member_group": {"group_type": 3, "group_name": ground.group}, "member_user": {}},
        changes=lambda _ground: {"role_id": 5},
        compared=lambda body: {
            "role_id": body["role_id"],
            "entity_name": body["member_group"]["group_name"],
            "entity_type": "g",
        },
    ),
    "harbor_robot_account project": Resource(
        path=lambda _ground: "/robots",
        body=lambda ground: _robot_body(ground, "project"),
        changes=lambda ground: _robot_changes(ground, "project"),
        compared=_robot_compared,
    ),
    "harbor_robot_account system": Resource(
        path=lambda _ground: "/robots",
        body=lambda ground: _robot_body(ground, "system"),
        changes=lambda ground: _robot_changes(ground, "system"),
        compared=_robot_compared,
    ),
    "harbor_registry": Resource(
        path=lambda _ground: "/registries",
        body=_registry_body,
        changes=_registry_changes,
        compared=_registry_compared,
        is_changed_whole=False,
    ),
    "harbor_replication": REPLICATION,
    "harbor_immutable_tag_rule": IMMUTABLE,
    "harbor_label": Resource(
        path=lambda _ground: "/labels",
        body=lambda ground: {**_LABEL, "name": ground.name("label"), "scope": "g"},
        changes=lambda _ground: _LABEL_CHANGES,
        compared=_LABEL_COMPARED,
    ),
    "harbor_label of a project": Resource(
        path=lambda _ground: "/labels",
        body=lambda ground: {**_LABEL, "name": ground.name("label"), "scope": "p", "project_id": ground.project_id},
        changes=lambda _ground: _LABEL_CHANGES,
        compared=_LABEL_COMPARED,
    ),
    "harbor_project_webhook": Resource(
        path=lambda ground: f"{ground.project_path}/webhook/policies",
        body=_webhook_body,
        changes=_webhook_changes,
        compared=_webhook_compared,
    ),
    "harbor_user": Resource(
        path=lambda _ground: "/users",
        body=_user_body,
        changes=lambda ground: {"realname": "Terra Nova", "email": f"{ground.name('nova')}@example.com"},
        compared=only("username", "realname", "email"),
    ),
    "harbor_group": Resource(
        path=lambda _ground: "/usergroups",
        body=lambda ground: {"group_name": ground.name("people"), "group_type": 3},
        changes=lambda _ground: {},
    ),
    "harbor_preheat_instance": Resource(
        path=lambda _ground: "/p2p/preheat/instances",
        body=_preheat_body,
        changes=lambda _ground: _PREHEAT_CHANGES,
        compared=only("name", "description", "vendor", "endpoint", "auth_mode", "enabled", "default", "insecure"),
    ),
}
