"""Holds answers of Twinhull's own API against what `openapi.json` says of them."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs

from twinhull.portal.openapi import description

DOCUMENT = json.loads(json.dumps(description("/api/twinhull/v1", "0")))


def require_described(method: str, path: str, status: int, body: object) -> None:
    """Fail the test unless the operation may answer so; the path is the document's, with its parameters in braces."""
    answers: dict[str, Any] = DOCUMENT["paths"][path][method.lower()]["responses"]
    assert str(status) in answers, f"{method} {path} does not say that it answers {status}"
    content = answers[str(status)].get("content")
    assert (content is None) == (body is None), f"{method} {path} {status}: {body}"
    if content is not None:
        schema = {**content["application/json"]["schema"], "components": DOCUMENT["components"]}
        jsonschema_rs.Draft202012Validator(schema).validate(body)
