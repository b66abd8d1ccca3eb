"""Queries for browsers' sessions that were logged out."""

from __future__ import annotations

from sqlalchemy import Connection, select

from twinhull.metadata.tables.accounts import ended_sessions


def ended_sessions_of(connection: Connection, *, before_ms: int | None = None, limit: int | None = None) -> list[str]:
    """Return the ids of the sessions that were logged out, or only of those that would have run out by that time."""
    query = select(ended_sessions.c.id).limit(limit)
    if before_ms is not None:
        query = query.where(ended_sessions.c.expires_ms < before_ms)
    return [str(row[0]) for row in connection.execute(query)]
