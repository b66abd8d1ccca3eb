"""Who may do what on the data plane, as its handlers see it; web.identity is behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from urllib.parse import parse_qsl

from twinhull.kit.errors import NameInvalid, TokenInvalid, Unauthenticated
from twinhull.kit.reference import parse_repository
from twinhull.registry.errors import Unauthorized
from twinhull.web.asgi import Scope
from twinhull.web.identity import Action, Caller, Identity
from twinhull.web.middleware import header_of

# What a token must be good for so that an action can go on.
_SCOPES: Final[dict[Action, str]] = {"pull": "pull", "push": "pull,push", "delete": "delete"}


class Access:
    """Identifies callers, and words the challenge for those who lack rights."""

    def __init__(self, identity: Identity) -> None:
        """Take who knows the callers."""
        self._identity = identity

    async def identify(self, scope: Scope, action: Action, repository: str) -> Caller:
        """Return the caller, who may do this; or raise Unauthorized, which tells what token would be good for it."""
        try:
            if repository and scope["method"] == "HEAD" and not header_of(scope, b"authorization"):
                # Docker sends no credentials that it has unless it is asked for them: a HEAD that were answered as anybody's
                # would cost somebody who is logged in the rights that they have.
                raise Unauthenticated("authorize header needed to send HEAD to repository")
            return await self._identity.identify(scope, action, repository)
        except TokenInvalid as error:
            raise InvalidToken(error.message, scopes=_wanted(scope, action, repository), detail=error.detail) from error
        except Unauthenticated as error:
            raise Unauthorized(error.message, scopes=_wanted(scope, action, repository), detail=error.detail) from error

    async def may_mount(self, caller: Caller, repository: str, source: str) -> bool:
        """Tell whether a blob of the source may be mounted into the repository, to which the caller may push.

        Raises Unauthorized when the caller may, but the token at hand was not asked for with the source's scope.
        """
        if await self._identity.may(caller, "pull", source):
            return True
        if caller.token is None or not await self.may_pull_anyhow(caller, source):
            return False
        scopes = f"{scopes_of('push', repository)} {scopes_of('pull', source)}"
        raise Unauthorized(f"the token is not good for pulling from {source}", scopes=scopes)

    async def may_pull_anyhow(self, caller: Caller, repository: str) -> bool:
        """Tell whether the caller may pull from there by current rights, whatever the token at hand was asked for.

        For mounts without a source: no token can name a repository that the client does not know.
        """
        return await self._identity.may(replace(caller, token=None), "pull", repository)

    async def visible_projects(self, caller: Caller) -> frozenset[str] | None:
        """Return the names of the projects whose repositories a caller may list; None for all of them."""
        return await self._identity.visible_projects(caller)


class InvalidToken(Unauthorized, TokenInvalid):
    """The token is forged, expired, for another service, or its owner is gone."""


def _wanted(scope: Scope, action: Action, repository: str) -> str:
    """Return all scopes that the request needs: a mount reads from another repository, and clients ask again only once."""
    scopes = scopes_of(action, repository)
    if action != "push" or scope["method"] != "POST":
        return scopes
    try:
        source = parse_repository(dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("from", ""))
    except (NameInvalid, ValueError):
        return scopes
    return f"{scopes} {scopes_of('pull', source)}" if source != repository else scopes


def scopes_of(action: Action, repository: str) -> str:
    """Return the scope that a token needs for the action, as challenges and token requests write it."""
    if action == "catalog":
        return "registry:catalog:*"
    return f"repository:{repository}:{_SCOPES[action]}" if action in _SCOPES else ""
