"""What receivers are sent has, field by field, the form of what a Harbor has sent. Skipped without its recording."""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from typing import Any

import pytest

from tests.support.accounts import AccountsNode, push_image, site
from tests.support.hooks import Hooks, hooks, receiver
from tools.descriptions import harbor_api_dir
from twinhull.kit.digest import digest_of

__all__ = ["hooks", "receiver", "site"]

RECORDING = "webhooks-v2.2.4.jsonl"


def form(value: object) -> Any:  # noqa: ANN401 - as deep as what was sent
    """Return the fields of it, in their order, and of which type they are."""
    if isinstance(value, dict):
        return tuple((name, form(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return [form(value[0])] if value else []
    return type(value).__name__


@pytest.fixture(scope="module")
def recorded() -> dict[str, list[Any]]:
    """By type of event, the forms that a Harbor has sent."""
    folder = harbor_api_dir()
    if folder is None or not (folder / RECORDING).exists():
        pytest.skip("the recording of Harbor's webhooks is not here")
    found: dict[str, list[Any]] = defaultdict(list)
    for line in (folder / RECORDING).read_text(encoding="utf-8").splitlines():
        body = json.loads(line)["body"]
        if "type" in body:
            found[body["type"]].append(form(body))
    return found


async def test_events_have_the_form_that_harbors_have(hooks: Hooks, site: AccountsNode, recorded: dict[str, list[Any]]) -> None:
    project = await site.admin.create("/projects", {"project_name": "small", "storage_limit": 2000})
    await hooks.policy(project)
    await push_image(site.admin, "small/sub/app")
    await site.admin("GET", "/v2/small/sub/app/manifests/v1")
    for status, size in ((201, 1500), (403, 900)):
        content = secrets.token_bytes(size)
        path = f"/v2/small/sub/app/blobs/uploads/?digest={digest_of(content)}"
        assert (await site.admin("POST", path, content, content_type="application/octet-stream")).status == status
    await hooks.settle()
    await push_image(site.admin, "small/other")
    await hooks.settle()
    await site.admin.ok(200, "DELETE", "/projects/small/repositories/sub%252Fapp/artifacts/v1")
    told = await hooks.told()
    types = {one["type"] for one in told}
    assert types == {"PUSH_ARTIFACT", "PULL_ARTIFACT", "DELETE_ARTIFACT", "QUOTA_EXCEED", "QUOTA_WARNING"}
    for one in told:
        assert form(one) in recorded[one["type"]], one
