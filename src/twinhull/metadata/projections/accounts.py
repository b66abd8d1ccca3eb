"""Nodes, settings, users, members and robots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection

from twinhull.metadata.projections.rows import Projection, Values, json_of, number_of, remove, text_of, times_of
from twinhull.metadata.tables.accounts import ended_sessions, members, nodes, robots, settings, users
from twinhull.metadata.tables.columns import upsert
from twinhull.records.kinds import ENTITY_LIFE, LIFE, id_and_aliases, number_of_life, split_member_key
from twinhull.records.merge import Value


def _token_keys(value: Value) -> list[dict[str, str]]:
    """Return those of a node's keys that are what keys are."""
    keys = value if isinstance(value, list) else []
    return [
        key for key in keys if isinstance(key, dict) and all(isinstance(text, str) for pair in key.items() for text in pair)
    ]


def _node(connection: Connection, key: str, values: Values | None) -> None:
    if values is None:
        return remove(connection, nodes, id=key)
    row = {
        "id": key,
        "name": text_of(values.get("name")),
        "slot": number_of(values.get("slot")),
        "address": text_of(values.get("address")),
        "url": text_of(values.get("url")),
        "token_keys": json_of(_token_keys(values.get("token_keys"))),
        "joined_ms": number_of(values.get("joined_ms")),
    }
    upsert(nodes).run(connection, row)
    return None


def _setting(connection: Connection, key: str, values: Values | None) -> None:
    if values is None:
        return remove(connection, settings, name=key)
    upsert(settings).run(connection, {"name": key, "value": json_of(values.get("value"))})
    return None


def _user(connection: Connection, key: str, values: Values | None) -> None:
    if values is None:
        return remove(connection, users, name=key)
    row = {
        "name": key,
        "id": id_and_aliases(values.get("ids"))[0],
        "email": text_of(values.get("email")),
        "realname": text_of(values.get("realname")),
        "comment": text_of(values.get("comment")),
        "password_hash": text_of(values.get("password_hash")),
        "sysadmin": bool(values.get("sysadmin")),
        "disabled": bool(values.get("disabled")),
        "source": text_of(values.get("source")),
        "external_id": text_of(values.get("external_id")),
        "groups": json_of(values.get("groups") or []),
        "cli_secret": text_of(values.get("cli_secret")),
        "admin_in_auth": bool(values.get("admin_in_auth")),
        **times_of(values),
    }
    upsert(users).run(connection, row)
    return None


def _member(connection: Connection, key: str, values: Values | None) -> None:
    project, entity_type, entity = split_member_key(key)
    if values is None:
        return remove(connection, members, project=project, entity_type=entity_type, entity=entity)
    row = {
        "project": project,
        "entity_type": entity_type,
        "entity": entity,
        "id": id_and_aliases(values.get("ids"))[0],
        "role": number_of(values.get("role")),
        "project_life": number_of_life(values.get(LIFE)),
        "entity_life": number_of_life(values.get(ENTITY_LIFE)),
        **times_of(values),
    }
    upsert(members).run(connection, row)
    return None


def _robot(connection: Connection, key: str, values: Values | None) -> None:
    if values is None:
        return remove(connection, robots, name=key)
    row = {
        "name": key,
        "id": id_and_aliases(values.get("ids"))[0],
        "level": text_of(values.get("level")),
        "project": text_of(values.get("project")),
        "description": text_of(values.get("description")),
        "permissions": json_of(values.get("permissions", [])),
        "disable": bool(values.get("disable")),
        "secret_hash": text_of(values.get("secret_hash")),
        "duration_days": number_of(values.get("duration_days"), -1),
        "expires_at_s": number_of(values.get("expires_at_s"), -1),
        "project_life": number_of_life(values.get(LIFE)),
        **times_of(values),
    }
    upsert(robots).run(connection, row)
    return None


def _session_end(connection: Connection, key: str, values: Values | None) -> None:
    if values is None:
        return remove(connection, ended_sessions, id=key)
    upsert(ended_sessions).run(connection, {"id": key, "expires_ms": number_of(values.get("expires_ms"))})
    return None


ACCOUNTS: Final[Mapping[str, Projection]] = {
    "node": _node,
    "setting": _setting,
    "user": _user,
    "member": _member,
    "robot": _robot,
    "session_end": _session_end,
}
