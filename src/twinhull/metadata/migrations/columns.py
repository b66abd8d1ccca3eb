"""Columns as migrations write them. What a released migration used here is never changed."""

from __future__ import annotations

import sqlalchemy as sa


def short_text(name: str, length: int, *, key: bool = False) -> sa.Column[str]:
    """Return a short text that sorts by its bytes."""
    in_order_of_bytes = sa.String(length, collation="C")
    return sa.Column(name, sa.String(length).with_variant(in_order_of_bytes, "postgresql"), primary_key=key, nullable=False)


def long_text(name: str) -> sa.Column[str]:
    """Return a text of any length."""
    return sa.Column(name, sa.Text(), nullable=False)


def blob(name: str) -> sa.Column[bytes]:
    """Return a column of bytes."""
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def number(name: str, *, key: bool = False) -> sa.Column[int]:
    """Return a big integer."""
    return sa.Column(name, sa.BigInteger(), primary_key=key, autoincrement=False, nullable=False)


def small_number(name: str) -> sa.Column[int]:
    """Return an integer."""
    return sa.Column(name, sa.Integer(), nullable=False)


def flag(name: str) -> sa.Column[bool]:
    """Return a truth value."""
    return sa.Column(name, sa.Boolean(), nullable=False)
