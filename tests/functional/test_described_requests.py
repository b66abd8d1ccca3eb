"""Requests drawn from Harbor's descriptions, by all sorts of callers: answered as described, without a 5xx.

Nobody reads or changes what is not theirs. `--rounds N` draws N cases for each operation.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response

from tests.support.accounts import PASSWORD, AccountsNode, Api, make_project, make_user, robot_body
from tests.support.composed import Reply
from tools.descriptions import GENERATIONS, VARIABLE, harbor_api_dir
from twinhull.jobs.garbage_collections import Order, order_collection

CASES: Final = 3
# Stands in whatever belongs to the private project and its administrator.
SECRET: Final = "only-for-members"
# What can be there, for parameters that would seldom hit it.
THERE: Final[dict[str, Any]] = {
    "project_name_or_id": SECRET,
    "project_name": SECRET,
    "project_id": 2,
    "id": 1,
    "user_id": 2,
    "robot_id": 1,
    "mid": 1,
    "label_id": 1,
}
# Bodies that would be taken from somebody who may: a drawn one seldom would be.
TAKEN: Final[dict[str, Any]] = {
    "members": {"role_id": 1, "member_user": {"username": "bystander"}},
    "robots": robot_body("other", SECRET),
    "schedule": {"schedule": {"type": "Manual"}, "parameters": {}},
    "sysadmin": {"sysadmin_flag": True},
}
CALLERS: Final = ["admin", "plain", "robot", "nobody"]
# What anybody who is logged in may make, or change of their own.
OWN: Final = frozenset({"POST /projects", "PUT /users/{user_id}", "PUT /users/{user_id}/password"})
# Where Harbor's own answers are not as it describes them: the recording has a map where a text is described, and so on.
UNLIKE_DESCRIBED: Final = frozenset({"GET /configurations", "GET /internalconfig", "GET /search"})
DESCRIPTIONS: Final = [name for name in GENERATIONS if not name.startswith("charts")]


class World:
    """A node with a private project, and those who ask it."""

    def __init__(self, root: Path) -> None:
        """Put it together."""
        self.node = AccountsNode(root)
        self.loop = asyncio.new_event_loop()
        self.callers = self.loop.run_until_complete(self._populate())

    async def _populate(self) -> dict[str, Api]:
        node = self.node
        await make_user(node, "owner")
        await make_user(node, "plain")
        # Made a member by the administrator's requests, and never asks for anything.
        await make_user(node, "bystander")
        await make_project(node.user("owner", PASSWORD), SECRET)
        await make_project(node.admin, "elsewhere")
        robot = await node.admin.ok(201, "POST", "/robots", robot_body("ci", "elsewhere"))
        await node.admin.ok(201, "POST", "/robots", robot_body(SECRET, SECRET))
        with node.store.write() as transaction:
            order_collection(transaction, Order())
        return {
            "admin": node.admin,
            "plain": node.user("plain", PASSWORD),
            "robot": node.user(robot["name"], robot["secret"]),
            "nobody": node.anonymous,
        }

    def ask(self, caller: str, method: str, path: str, body: object) -> Reply:
        """Return the answer to a request."""
        return self.loop.run_until_complete(self.callers[caller](method, f"/api/v2.0{path}", body))

    def close(self) -> None:
        """Take it down."""
        self.loop.close()
        self.node.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world of its own; closed after the test."""
    made = World(tmp_path)
    yield made
    made.close()


def operations(name: str) -> list[Any]:
    """Return the operations of a description; skips the test if it is not beside the checkout."""
    folder = harbor_api_dir()
    if folder is None:
        pytest.skip(f"Harbor's descriptions are not beside the checkout (${VARIABLE})")
    schema = schemathesis.openapi.from_path(folder / name)
    found = [result.ok() if isinstance(result, Ok) else result.err() for result in schema.get_all_operations()]
    assert not [one for one in found if isinstance(one, Exception)]
    return found


def url_of(case: Any) -> str:  # noqa: ANN401 - schemathesis names no public type for a drawn case
    """Return path and query of a drawn request."""
    query = urlencode(case.query or {}, doseq=True)
    return quote(case.formatted_path, safe="/%") + (f"?{query}" if query else "")


def without_nulls(value: Any) -> Any:  # noqa: ANN401 - whatever JSON is
    """Return JSON without fields that are null: Harbor's own descriptions do not say where its lists are null when empty."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def response_of(url: str, method: str, reply: Reply) -> Response:
    """Return an answer as schemathesis looks at it."""
    headers: dict[str, list[str]] = {}
    for key, value in reply.headers:
        headers.setdefault(key.lower(), []).append(value)
    content = json.dumps(without_nulls(reply.json())).encode() if "json" in reply["content-type"] else reply.body
    asked = requests.Request(method, f"http://node{url}").prepare()
    return Response(status_code=reply.status, headers=headers, content=content, request=asked, elapsed=0.0, verify=False)


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_drawn_requests_are_answered_as_described_and_open_nothing(
    world: World, name: str, request: pytest.FixtureRequest
) -> None:
    failures: dict[str, str] = {}
    drawn = settings(
        max_examples=request.config.getoption("--rounds") or CASES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    for operation in operations(name):

        @drawn
        @given(case=operation.as_strategy(), caller=st.sampled_from(CALLERS), is_there=st.sampled_from([True, True, False]))
        def ask(case: Any, caller: str, is_there: bool) -> None:  # noqa: ANN401 - drawn by hypothesis
            if is_there:
                known = {key: value for key, value in THERE.items() if key in case.path_parameters}
                case.path_parameters = {**case.path_parameters, **known}
                case.body = TAKEN.get(case.operation.path.rpartition("/")[2], case.body)
            url = url_of(case)
            body = case.body if isinstance(case.body, dict | list | str | int | float | bool) else None
            before = world.node.store.position()
            reply = world.ask(caller, case.method, url, body)
            problem = problem_of(case, url, reply)
            if caller != "admin" and reply.status < 300 and SECRET.encode() in reply.body.replace(url.encode(), b""):
                problem = "reads what is not theirs"
            if caller != "admin" and world.node.store.position() != before and case.operation.label not in OWN:
                problem = "changes what is not theirs"
            if problem:
                told = f"{caller}: {case.method} {url} {json.dumps(body)[:300]} -> {reply.status} {reply.body[:300]!r}"
                failures.setdefault(case.operation.label, f"{problem}: {told}")

        ask()
    assert not failures, "\n".join(failures.values())


def problem_of(case: Any, url: str, reply: Reply) -> str:  # noqa: ANN401 - see above
    """Return what is wrong with an answer, whoever asked."""
    if reply.status >= 500:
        return "a failure of ours"
    if reply.status >= 400 and reply.body and "errors" not in json.loads(reply.body):
        return "an error that is none of Harbor's"
    if reply.status < 300 and reply.body and case.operation.label not in UNLIKE_DESCRIBED:
        try:
            case.operation.validate_response(response_of(url, case.method, reply))
        except AssertionError as error:
            return f"another shape, {str(error)[:400]}"
    return ""
