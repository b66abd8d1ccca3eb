"""Every path under /v2/: which handler takes it, and what its caller must be allowed to do.

A router of its own, since a manifest request costs less than a general router's share of it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from twinhull.kit.errors import NotFound
from twinhull.kit.reference import parse_repository
from twinhull.registry.access import Access
from twinhull.registry.answers import NO_CONTENT_LENGTH, json_answer
from twinhull.registry.blobs import BlobHandlers
from twinhull.registry.errors import MethodNotAllowed
from twinhull.registry.manifests import ManifestHandlers
from twinhull.registry.referrers import ReferrerHandlers
from twinhull.registry.tags import TagHandlers
from twinhull.registry.target import Target
from twinhull.registry.uploads import UploadHandlers
from twinhull.web.asgi import OPERATION, Answer, Receive, Request, Scope, Send
from twinhull.web.identity import Action, Caller

# Repository names may hold "manifests" or "blobs" as components: what counts is the end of the path.
_SHAPE: Final = re.compile(
    r"/v2/(?P<repository>.+)/(?:manifests/(?P<manifest>[^/]+)|blobs/uploads(?P<upload>(?:/[^/]*)?)|blobs/(?P<blob>[^/]+)"
    r"|(?P<tags>tags/list)|referrers/(?P<referrers>[^/]+))"
)

Handler = Callable[[Request, Target, Caller], Awaitable[Answer | None]]


class _Route(NamedTuple):
    handler: Handler
    action: Action


class Registry:
    """The face under /v2/. An ASGI application that raises what it refuses; web.app writes that down by registry.errors."""

    def __init__(
        self,
        *,
        access: Access,
        manifests: ManifestHandlers,
        blobs: BlobHandlers,
        uploads: UploadHandlers,
        tags: TagHandlers,
        referrers: ReferrerHandlers,
    ) -> None:
        """Take the handlers, and who knows the callers."""
        self._access = access
        self._routes: dict[tuple[str, str], _Route] = {
            ("manifest", "GET"): _Route(manifests.get, "pull"),
            ("manifest", "HEAD"): _Route(manifests.get, "pull"),
            ("manifest", "PUT"): _Route(manifests.put, "push"),
            ("manifest", "DELETE"): _Route(manifests.delete, "delete"),
            ("blob", "GET"): _Route(blobs.get, "pull"),
            ("blob", "HEAD"): _Route(blobs.head, "pull"),
            ("blob", "DELETE"): _Route(blobs.delete, "delete"),
            ("uploads", "POST"): _Route(uploads.post, "push"),
            ("upload", "GET"): _Route(uploads.status, "push"),
            ("upload", "HEAD"): _Route(uploads.status, "push"),
            ("upload", "PATCH"): _Route(uploads.patch, "push"),
            ("upload", "PUT"): _Route(uploads.put, "push"),
            ("upload", "DELETE"): _Route(uploads.cancel, "push"),
            ("tags", "GET"): _Route(tags.tags, "pull"),
            ("tags", "HEAD"): _Route(tags.tags, "pull"),
            ("referrers", "GET"): _Route(referrers.referrers, "pull"),
            ("referrers", "HEAD"): _Route(referrers.referrers, "pull"),
            ("catalog", "GET"): _Route(tags.catalog, "catalog"),
            ("catalog", "HEAD"): _Route(tags.catalog, "catalog"),
            ("root", "GET"): _Route(_root, "login"),
            ("root", "HEAD"): _Route(_root, "login"),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or raise why not."""
        shape, target = parse_path(scope["path"])
        scope[OPERATION] = shape
        if shape == "slashless":
            # As Harbor's nginx does, whoever asks and however.
            await Answer(301, [(b"location", b"/v2/"), NO_CONTENT_LENGTH]).send_to(send, receive)
            return
        route = self._routes.get((shape, scope["method"]))
        if route is None:
            allowed = ", ".join(method for known, method in self._routes if known == shape)
            raise MethodNotAllowed(f"{str(scope['method'])[:32]} is not supported here", allowed=allowed)
        caller = await self._access.identify(scope, route.action, target.repository)
        answer = await route.handler(Request(scope, receive, send), target, caller)
        if answer is not None:
            await answer.send_to(send, receive)


def parse_path(path: str) -> tuple[str, Target]:
    """Return what kind of thing a path names, and which; raises NotFound for no kind, NameInvalid for no valid repository."""
    match = _SHAPE.fullmatch(path)
    if match is None:
        if path == "/v2/":
            return "root", Target("", "")
        if path == "/v2":
            return "slashless", Target("", "")
        if path in ("/v2/_catalog", "/v2/_catalog/"):
            return "catalog", Target("", "")
        raise NotFound(f"path {path[:200]!r} is not one of the distribution API")
    shape = str(match.lastgroup)
    reference = match[shape]
    if shape == "upload":
        reference = reference.lstrip("/")
        shape = "upload" if reference else "uploads"
    return shape, Target(parse_repository(match["repository"]), reference)


async def _root(request: Request, _target: Target, _caller: Caller) -> Answer:
    return json_answer(request, {})
