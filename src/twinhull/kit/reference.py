"""Names of repositories and tags. Grammar: OCI distribution specification 1.1, "Pulling manifests"."""

from __future__ import annotations

import re
from typing import Final

from twinhull.kit.digest import Digest, parse_digest
from twinhull.kit.errors import NameInvalid, TagInvalid

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
REPOSITORY_LENGTH_MAX: Final = 255


def parse_repository(name: str) -> str:
    """Return the name of a repository inside a project, or raise NameInvalid."""
    if len(name) > REPOSITORY_LENGTH_MAX or not _REPOSITORY.fullmatch(name):
        raise NameInvalid(f"repository name {name[:REPOSITORY_LENGTH_MAX]!r} is not valid")
    if "/" not in name:
        raise NameInvalid(f"repository name {name!r} lacks a project", hint=f"push to PROJECT/{name}, e.g. library/{name}")
    return name


def parse_tag(name: str) -> str:
    """Return the tag, or raise TagInvalid."""
    if not _TAG.fullmatch(name):
        raise TagInvalid(f"tag {name[:160]!r} is not valid")
    return name


def parse_reference(text: str) -> str | Digest:
    """Return a digest if there is a colon in the text, else a tag; or raise DigestInvalid, Unsupported or TagInvalid."""
    return parse_digest(text) if ":" in text else parse_tag(text)


def is_digest(reference: str | Digest) -> bool:
    """Tell whether a parsed reference is a digest; tags have no colon."""
    return ":" in reference


def project_of(repository: str) -> str:
    """Return the project that a repository belongs to: its first component."""
    return repository.partition("/")[0]
