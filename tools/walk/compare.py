"""Whether an answer has the shape of another: every field is there, with the same JSON type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = Any


def type_of(value: Json) -> str:
    """Return the JSON type of a decoded value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def differences(theirs: Json, ours: Json, at: str = "body") -> Iterator[str]:
    """Return what `ours` lacks of the shape of `theirs`, in words.

    Each item of a list must look like one of theirs; a list in which they had something must not be empty.
    """
    if type_of(theirs) != type_of(ours):
        yield f"{at} is {type_of(ours)}, not {type_of(theirs)}"
    elif isinstance(theirs, dict):
        for name, value in theirs.items():
            if name in ours:
                yield from differences(value, ours[name], f"{at}.{name}")
            else:
                yield f"{at}.{name} is missing"
    elif isinstance(theirs, list) and theirs:
        if not ours:
            yield f"{at} is empty"
        for item in ours:
            yield from min((list(differences(model, item, f"{at}[]")) for model in theirs), key=len)
