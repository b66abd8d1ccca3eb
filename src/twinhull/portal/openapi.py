"""`/api/twinhull/v1/openapi.json`: Twinhull's own API in the words of OpenAPI 3.1, to generate clients from. Pure data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

Schema = Mapping[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_RATE: Final[Schema] = {"type": "number", "minimum": 0}
_FLAG: Final[Schema] = {"type": "boolean"}
_REASONS: Final[Schema] = {
    "type": "object",
    "additionalProperties": _TEXT,
    "description": "By origin, why its changes are not taken.",
}
_STATES: Final = ("self", "removed", "in sync", "behind", "suspect", "one-way", "down", "paused")


def _object(described: Mapping[str, Schema], *, optional: Mapping[str, Schema] | None = None) -> Schema:
    return {"type": "object", "required": list(described), "properties": {**described, **(optional or {})}}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


_WHO: Final = {"id": _TEXT, "name": _TEXT, "address": _TEXT, "cluster_address": _TEXT}
_SCHEMAS: Final[Mapping[str, Schema]] = {
    "Errors": _object({"errors": _list(_object({"code": _TEXT, "message": _TEXT}))}),
    "Member": _object(
        {**_WHO, "state": {"enum": list(_STATES)}, "lag_changes": _COUNT, "lag_bytes": _COUNT, "lag_s": _RATE},
        optional={
            "lag_blobs": _COUNT,
            "last_error": _TEXT,
            "held": _REASONS,
            "held_there": _REASONS,
            "received_bytes": _COUNT,
            "sent_bytes": _COUNT,
            "received_bytes_per_s": _RATE,
            "sent_bytes_per_s": _RATE,
        },
    ),
    "Alarm": _object({"name": _TEXT, "message": _TEXT, "peer": {"type": "string", "description": "Empty: this node."}}),
    "Cluster": _object(
        {
            "node": _ref("Member"),
            "members": _list(_ref("Member")),
            "log_position": _COUNT,
            "durability": {"enum": ["local", "metadata", "full"]},
            "conflicts": _COUNT,
            "alarms": _list(_ref("Alarm")),
        }
    ),
    "Presence": _object(
        {
            "id": _TEXT,
            "name": _TEXT,
            "metadata": _or_null(_FLAG),
            "bytes": _or_null(_FLAG),
            "missing_blobs": _or_null(_COUNT),
            "missing_bytes": _or_null(_COUNT),
            "error": {"type": "string", "description": "Why the node could not be asked."},
        }
    ),
    "Replication": _object({"digest": _TEXT, "repository": _TEXT, "everywhere": _FLAG, "nodes": _list(_ref("Presence"))}),
    "Conflict": _object(
        {
            "id": _TEXT,
            "kind": _TEXT,
            "key": _TEXT,
            "field": _TEXT,
            "winner": {"description": "The value that holds; null for one that is secret."},
            "candidates": _list(_object({"value": {}, "written_at": {"type": "string", "format": "date-time"}, "node": _TEXT})),
            "recorded_at": {"type": "string", "format": "date-time"},
            "acknowledged": _FLAG,
            "acknowledged_by": _TEXT,
        }
    ),
}


def _answer(description: str, schema: Schema, **more: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}, **more}}


def _failures(*codes: str) -> Mapping[str, Schema]:
    words = {"400": "It can't be read.", "401": "Nobody in particular asks.", "403": "The caller may not.", "404": "Not there."}
    words["422"] = "A number is none, or too big."
    words["503"] = "The node can't say just now; its message says why."
    return {code: _answer(words[code], _ref("Errors")) for code in codes}


def _operation(name: str, summary: str, answers: Mapping[str, Schema], parameters: Sequence[Schema] = ()) -> Schema:
    return {"operationId": name, "summary": summary, "parameters": list(parameters), "responses": answers}


def _parameter(name: str, schema: Schema, description: str, *, place: str = "query", needed: bool = False) -> Schema:
    return {"name": name, "in": place, "required": needed, "schema": schema, "description": description}


_CONFLICT_ID: Final = _parameter("conflict_id", _TEXT, "The conflict's id.", place="path", needed=True)
_PAGE: Final = (
    _parameter("q", _TEXT, "What to look for, as in Harbor's lists: `kind`, `key`, `field`, `recorded_at`."),
    _parameter("sort", _TEXT, "By what to sort, `-` before it for the other way."),
    _parameter("page", {"type": "integer", "default": 1}, "Which page."),
    _parameter("page_size", {"type": "integer", "minimum": 1, "maximum": 100, "default": 10}, "How many a page."),
)
_LIST_HEADERS: Final = {"X-Total-Count": {"schema": _COUNT}, "Link": {"schema": _TEXT}}
_PATHS: Final[Mapping[str, Mapping[str, Schema]]] = {
    "/cluster": {
        "get": _operation(
            "getCluster",
            "How this node and its peers are; as server-sent events whenever that changes.",
            {
                "200": _answer("Now.", _ref("Cluster"), **{"text/event-stream": {"schema": _TEXT}}),
                **_failures("401", "403", "503"),
            },
        )
    },
    "/replication": {
        "get": _operation(
            "getReplication",
            "On which nodes an image, index or blob is.",
            {"200": _answer("For each node.", _ref("Replication")), **_failures("400", "401", "404", "503")},
            [
                _parameter("digest", _TEXT, "Of a manifest or a blob.", needed=True),
                _parameter("repository", _TEXT, "Only there; else wherever the caller may pull it."),
            ],
        )
    },
    "/conflicts": {
        "get": _operation(
            "listConflicts",
            "What this node saw written on several nodes at the same time, newest first.",
            {
                "200": {**_answer("A page.", _list(_ref("Conflict"))), "headers": _LIST_HEADERS},
                **_failures("400", "401", "403", "422"),
            },
            [_parameter("acknowledged", _FLAG, "Only those that somebody has seen to, or not."), *_PAGE],
        )
    },
    "/conflicts/{conflict_id}": {
        "get": _operation(
            "getConflict",
            "One conflict.",
            {"200": _answer("The conflict.", _ref("Conflict")), **_failures("401", "403", "404")},
            [_CONFLICT_ID],
        )
    },
    "/conflicts/{conflict_id}/acknowledgement": {
        "put": _operation(
            "acknowledgeConflict",
            "Say, on all nodes, that the caller has seen to a conflict.",
            {"200": {"description": "It is said."}, **_failures("401", "403", "404", "503")},
            [_CONFLICT_ID],
        )
    },
}


def description(root: str, version: str) -> dict[str, Any]:
    """Return the document, for the API at that path of this node."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Twinhull", "version": version, "summary": "What Harbor's API has no word for."},
        "servers": [{"url": root}],
        "security": [{"basic": []}, {"bearer": []}],
        "paths": _PATHS,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer", "description": "A registry token; /replication takes it."},
            },
        },
    }


def description_routes(root: str, version: str) -> Sequence[BaseRoute]:
    """Return the route that serves the document, to anybody."""
    document = msgspec.json.encode(description(root, version))

    async def serve(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    return [Route("/openapi.json", serve, methods=["GET"])]
