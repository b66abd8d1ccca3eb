"""Patterns of rules against names of repositories and tags, as doublestar has them: `*`, `**`, `?`, `[a-z]`, `{a,b}`. Pure.

A star stops at a slash; two stars that are a whole part of the path between slashes do not. The time that a match takes
grows with pattern times name and no faster, whatever somebody writes into a rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

# Braces can multiply: a pattern that stands for more than this matches nothing.
ALTERNATIVES_MAX: Final = 256
_WILD: Final = frozenset("*?[\\")


class _Token(NamedTuple):
    """One step: a sign of a set (or of all but those), or as many signs as one likes."""

    signs: frozenset[str]
    negated: bool = False
    repeated: bool = False
    ranges: tuple[tuple[str, str], ...] = ()
    # Stands for no sign: from here one may also go on behind so many.
    jump: int = 0

    def takes(self, sign: str) -> bool:
        """Tell whether the sign fits."""
        return (sign in self.signs or any(low <= sign <= high for low, high in self.ranges)) is not self.negated


_ANY: Final = _Token(frozenset(), negated=True)
_ANY_BUT_SLASH: Final = _Token(frozenset("/"), negated=True)


def matches(pattern: str, name: str) -> bool:
    """Tell whether a name matches the pattern; an empty pattern matches everything, one that is no pattern nothing."""
    return not pattern or any(_fits(tokens, name) for tokens in _compiled(pattern))


def names_of(pattern: str) -> tuple[str, ...] | None:
    """Return the only names that match the pattern, where it has no wildcards; None where any number of names may."""
    try:
        alternatives = tuple(_expanded(pattern)) if pattern else None
    except ValueError:
        return ()
    if alternatives is None or any(_WILD & set(one) for one in alternatives):
        return None
    return tuple(dict.fromkeys(alternatives))


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> tuple[tuple[_Token, ...], ...]:
    try:
        alternatives = list(_expanded(pattern))
        return tuple(tuple(_tokens(alternative)) for alternative in alternatives)
    except ValueError:
        return ()


def _expanded(pattern: str) -> Iterator[str]:
    """Yield the patterns without braces that this one stands for; raises ValueError if there are too many."""
    waiting, found = [pattern], 0
    while waiting:
        current = waiting.pop()
        braces = _first_braces(current)
        if braces is None:
            found += 1
            yield current
        else:
            start, end, choices = braces
            waiting += [current[:start] + choice + current[end:] for choice in reversed(choices)]
        if found + len(waiting) > ALTERNATIVES_MAX:
            raise ValueError(pattern)


def _first_braces(pattern: str) -> tuple[int, int, list[str]] | None:
    start, depth, choices, begun = -1, 0, list[str](), 0
    position = 0
    while position < len(pattern):
        sign = pattern[position]
        if sign == "\\":
            position += 1
        elif sign == "{":
            if depth == 0:
                start, begun = position, position + 1
            depth += 1
        elif depth and sign in ",}":
            if depth == 1:
                choices.append(pattern[begun:position])
                begun = position + 1
            if sign == "}":
                depth -= 1
                if depth == 0:
                    return start, position + 1, choices
        position += 1
    if depth:
        raise ValueError(pattern)
    return None


def _tokens(pattern: str) -> Iterator[_Token]:
    position = 0
    while position < len(pattern):
        sign = pattern[position]
        if sign == "*":
            stars = len(pattern) - position - len(pattern[position:].lstrip("*"))
            begins_part = position == 0 or pattern[position - 1] == "/"
            whole_part = begins_part and pattern[position + stars : position + stars + 1] in ("", "/")
            position += stars
            if stars > 1 and whole_part:
                if pattern[position : position + 1] == "/":
                    # "a/**/b" is "a/b" too.
                    yield _Token(frozenset(), jump=3)
                yield _ANY._replace(repeated=True)
            else:
                yield _ANY_BUT_SLASH._replace(repeated=True)
            continue
        if sign == "[":
            token, position = _class(pattern, position + 1)
            yield token
            continue
        if sign == "?":
            yield _ANY_BUT_SLASH
        elif sign == "\\":
            position += 1
            if position == len(pattern):
                raise ValueError(pattern)
            yield _Token(frozenset(pattern[position]))
        else:
            yield _Token(frozenset(sign))
        position += 1


def _class(pattern: str, position: int) -> tuple[_Token, int]:
    end = pattern.find("]", position + 1)
    if end < 0:
        raise ValueError(pattern)
    inside = pattern[position:end]
    negated = inside[0] in "^!"
    inside = inside[negated:]
    signs, ranges = set[str](), list[tuple[str, str]]()
    at = 0
    while at < len(inside):
        if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside):
            ranges.append((inside[at], inside[at + 2]))
            at += 3
        else:
            signs.add(inside[at])
            at += 1
    # A class never stands for a slash.
    if negated:
        signs.add("/")
    return _Token(frozenset(signs), negated=negated, ranges=tuple(ranges)), end + 1


def _fits(tokens: tuple[_Token, ...], name: str) -> bool:
    """Follow all ways at once: in which places of the pattern one can be after each sign."""
    places = _closed(tokens, {0})
    for sign in name:
        after = {
            place if tokens[place].repeated else place + 1
            for place in places
            if place < len(tokens) and tokens[place].takes(sign)
        }
        places = _closed(tokens, after)
        if not places:
            return False
    return len(tokens) in places


def _closed(tokens: tuple[_Token, ...], places: set[int]) -> set[int]:
    """Add the places that are reached by leaving out what may be repeated no time at all, and by jumps."""
    found = set(places)
    waiting = list(places)
    while waiting:
        place = waiting.pop()
        if place == len(tokens):
            continue
        token = tokens[place]
        reached = {place + 1, place + token.jump} if token.jump else {place + 1} if token.repeated else set()
        waiting += reached - found
        found |= reached
    return found
