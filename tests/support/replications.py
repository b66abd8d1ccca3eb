"""Drives replication policies of a node by Harbor's API, and waits for what comes of them."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tests.support.registry_client import Answer, RegistryClient, Repository, basic

ROOT: Final = "/api/v2.0"
LIMIT_S: Final = 40.0
_LOOK_S: Final = 0.05
_numbers = itertools.count(1)


def wait_for(condition: Callable[[], object], what: str, *, limit_s: float = LIMIT_S) -> None:
    """Return when the condition holds, or fail the test."""
    until_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until_s, f"not in time: {what}"
        time.sleep(_LOOK_S)


class Desk:
    """An administrator of one node."""

    def __init__(self, address: str, user: str = "admin", password: str = "Harbor12345") -> None:
        """Take where the node is."""
        self.address = address
        self.user = user
        self.password = password
        self._client = RegistryClient(addresses=[address], user=user, password=password)

    def repository(self, name: str) -> Repository:
        """Return a repository to push to and pull from."""
        return Repository(client=self._client, name=name)

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Ask the API."""
        return self._client.request(
            method,
            ROOT + path,
            headers={"Content-Type": "application/json"},
            body=json.dumps(body).encode() if body is not None else b"",
            authorization=basic(self.user, self.password),
        )

    def get(self, path: str) -> Any:  # noqa: ANN401 - whatever JSON is
        """Return what is there."""
        return self.ask("GET", path).expect(200).json()

    def make_project(self, name: str, *, public: bool = False) -> None:
        """Make a project."""
        body = {"project_name": name, "metadata": {"public": "true" if public else "false"}}
        self.ask("POST", "/projects", body).expect(201)

    def add_registry(self, kind: str, url: str, *, user: str = "", secret: str = "") -> int:
        """Make an endpoint and return its id."""
        credential = {"type": "basic", "access_key": user, "access_secret": secret} if user else {}
        body = {"name": f"other-{next(_numbers)}", "type": kind, "url": url, "insecure": True, "credential": credential}
        return _made(self.ask("POST", "/registries", body))

    def add_policy(self, **fields: object) -> int:
        """Make a policy, enabled and manual unless the fields say otherwise, and return its id."""
        return _made(self.ask("POST", "/replication/policies", _policy(fields)))

    def change_policy(self, number: int, **fields: object) -> None:
        """Set a policy as a whole."""
        self.ask("PUT", f"/replication/policies/{number}", _policy(fields)).expect(200)

    def start(self, policy: int) -> int:
        """Begin an execution and return its id."""
        return _made(self.ask("POST", "/replication/executions", {"policy_id": policy}))

    def execution(self, number: int) -> Mapping[str, Any]:
        """Return an execution."""
        found: Mapping[str, Any] = self.get(f"/replication/executions/{number}")
        return found

    def executions(self, policy: int) -> Sequence[Mapping[str, Any]]:
        """Return a policy's executions, the newest first."""
        found: Sequence[Mapping[str, Any]] = self.get(f"/replication/executions?policy_id={policy}")
        return found

    def ended(self, number: int, *, limit_s: float = LIMIT_S) -> Mapping[str, Any]:
        """Return an execution once it has ended."""
        wait_for(lambda: self.execution(number)["status"] != "InProgress", f"the end of execution {number}", limit_s=limit_s)
        return self.execution(number)

    def carried_out(self, policy: int) -> Mapping[str, Any]:
        """Carry a policy out, and return the execution once it has ended; fails the test unless it succeeded."""
        execution = self.ended(self.start(policy))
        assert execution["status"] == "Succeed", self.told(execution["id"])
        return execution

    def tasks(self, execution: int) -> Sequence[Mapping[str, Any]]:
        """Return an execution's tasks, those begun first at the beginning."""
        found = self.get(f"/replication/executions/{execution}/tasks?page_size=100")
        return sorted(found, key=lambda one: int(one["id"]))

    def log_of(self, execution: int, task: int) -> str:
        """Return what a task wrote."""
        return self.ask("GET", f"/replication/executions/{execution}/tasks/{task}/log").expect(200).body.decode()

    def told(self, execution: int) -> str:
        """Return all that is known of an execution, for reports of failures and for looks at logs."""
        logs = [self.log_of(execution, int(one["id"])) for one in self.tasks(execution)]
        return "\n".join([str(self.execution(execution)), *map(str, self.tasks(execution)), *logs])


def _made(answer: Answer) -> int:
    return int((answer.expect(201).header("Location") or "").rpartition("/")[2])


def _policy(fields: Mapping[str, object]) -> dict[str, object]:
    given = {"name": f"policy-{next(_numbers)}", "enabled": True, "override": True, "trigger": {"type": "manual"}, **fields}
    for side in ("src_registry", "dest_registry"):
        if isinstance(given.get(side), int):
            given[side] = {"id": given[side]}
    filters = given.get("filters")
    if isinstance(filters, Mapping):
        given["filters"] = [{"type": kind, "value": value} for kind, value in filters.items()]
    return given
