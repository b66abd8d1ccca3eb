"""What `openapi.json` describes and what is routed are the same."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from starlette.routing import Mount, Route, Router

from tests.support.described import DOCUMENT
from twinhull.harbor.conflicts import ConflictsApi
from twinhull.harbor.requests import Methods
from twinhull.harbor.routes import management_routes
from twinhull.node.own_api import own_face
from twinhull.observe.stop_mark import StopMark

# What only answers need.
ANYTHING = cast("Any", SimpleNamespace(status=None))


def methods_of(route: Route) -> set[str]:
    """Return them; what stands for all other paths has none."""
    own = route.endpoint.handlers if isinstance(route.endpoint, Methods) else route.methods or ()
    return set(own) - {"HEAD"}


def test_every_route_is_described(tmp_path: Path) -> None:
    face = own_face(
        peers=ANYTHING,
        store=ANYTHING,
        executor=ANYTHING,
        identity=ANYTHING,
        admission=ANYTHING,
        clock=ANYTHING,
        stopping=StopMark(tmp_path),
    ).face
    assert isinstance(face, Router)
    (mount,) = (route for route in face.routes if isinstance(route, Mount))
    routes = [*mount.routes, *management_routes(ConflictsApi(access=ANYTHING, documents=ANYTHING))]
    routed = {(route.path, method) for route in routes if isinstance(route, Route) for method in methods_of(route)}
    described = {(path, method.upper()) for path, found in DOCUMENT["paths"].items() for method in found}
    assert routed - {("/openapi.json", "GET")} == described
