"""What a path of the management API asks for, as robots with rights in the system have it in their lists: pure data."""

from __future__ import annotations

from typing import Final

from twinhull.auth.permissions import Grant
from twinhull.auth.robot_permissions import IN_SYSTEM

# The longest match counts.
_RESOURCES: Final = (
    ("/registries", "registry"),
    ("/replication/policies", "replication-policy"),
    ("/replication/executions", "replication"),
    ("/replication/adapters", "replication-adapter"),
    ("/replication/adapterinfos", "replication-adapter"),
    ("/scanners", "scanner"),
    ("/system/scanAll", "scan-all"),
    ("/scans", "scan-all"),
    ("/system/gc", "garbage-collection"),
    ("/system/purgeaudit", "purge-audit"),
    ("/jobservice", "jobservice-monitor"),
    ("/schedules", "jobservice-monitor"),
    ("/systeminfo/volumes", "system-volumes"),
    ("/labels", "label"),
    ("/security", "security-hub"),
    ("/quotas", "quota"),
    ("/usergroups", "user-group"),
    ("/users", "user"),
    ("/ldap", "ldap-user"),
    ("/configurations", "configuration"),
    ("/p2p/preheat/instances", "preheat-instance"),
    ("/audit-logs", "audit-log"),
    ("/auditlog-exts", "audit-log"),
)
# What no robot does, whatever its list says: it would make administrators, or take their accounts.
_NEVER: Final = ("/sysadmin", "/password", "/cli_secret")
_ACTIONS: Final = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_KNOWN: Final = frozenset(IN_SYSTEM)


def needed_grant(method: str, path: str) -> Grant | None:
    """Return what a robot has to be given for a request below /api/v2.0; None where nothing that it can be given will do."""
    if path.endswith(_NEVER):
        return None
    matches = [(prefix, resource) for prefix, resource in _RESOURCES if path == prefix or path.startswith(f"{prefix}/")]
    if not matches:
        return None
    prefix, resource = max(matches, key=lambda match: len(match[0]))
    action = _ACTIONS.get(method) or ("list" if path == prefix and Grant(resource, "list") in _KNOWN else "read")
    grant = Grant(resource, action)
    # Where there is only a list, it is what single things are read by too.
    if grant not in _KNOWN and action == "read":
        grant = Grant(resource, "list")
    return grant if grant in _KNOWN else None
