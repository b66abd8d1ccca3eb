"""What robot accounts may be given, in a project and in the system: pure data, as Harbor's newest release lists it."""

from __future__ import annotations

from typing import Final

from twinhull.auth.permissions import Grant, grants_of

IN_PROJECT: Final = grants_of("""
    log: list
    project: read delete update
    metadata: read create delete list update
    repository: read update delete list pull push
    artifact: read create list delete
    scan: create read stop
    sbom: create read stop
    tag: create list delete
    accessory: list
    artifact-addition: read
    artifact-label: create delete
    scanner: create read
    preheat-policy: read create delete list update
    immutable-tag: create delete list update
    notification-policy: read create delete list update
    tag-retention: read create delete list update operate
    label: read create delete list update
    quota: read
    member: create read update list delete
    robot: create read list delete
    export-cve: create read list
""")

IN_SYSTEM: Final = grants_of("""
    audit-log: list
    preheat-instance: read create delete list update
    project: list create
    replication-policy: read create delete list update
    replication: read create list
    replication-adapter: list
    registry: read create delete list update
    scan-all: read update stop create
    system-volumes: read
    garbage-collection: read create list update stop
    purge-audit: read create list update stop
    jobservice-monitor: list stop
    scanner: read create delete list update
    label: read create delete update
    security-hub: read list
    catalog: read
    quota: read list update
    user: create read update list delete
    user-group: create read update list delete
    ldap-user: create list
    robot: create read update list delete
    configuration: read update
""")

# Before there was such a list, clients gave robots what a member may do; the charts of Harbor 2.2 are among it.
GRANTABLE_IN_PROJECT: Final = frozenset(IN_PROJECT) | frozenset(
    Grant(resource, action)
    for resource in ("helm-chart", "helm-chart-version", "helm-chart-version-label")
    for action in ("create", "read", "list", "delete")
)
