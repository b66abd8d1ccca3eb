"""The requests that were recorded with a real Harbor are answered with the same status and shape; how many may only rise."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.single import running_node
from tools.descriptions import RECORDING, ROOT, VARIABLE, harbor_api_dir
from tools.walk.beside import BESIDE, merged, read_beside
from tools.walk.client import Client
from tools.walk.compare import differences
from tools.walk.names import Names, numbers_in
from tools.walk.report import percentage, render
from tools.walk.walker import Outcome, Walker, read_recording

# At least so many per cent of the rows are the same.
RATCHET: Final = ROOT / "tools/walk/ratchet.toml"


@pytest.fixture(scope="module")
def folder() -> Path:
    """Where the recording is; skips the test if it is not beside the checkout."""
    found = harbor_api_dir()
    if found is None:
        pytest.skip(f"the recording is not beside the checkout (${VARIABLE})")
    return found


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[tuple[list[Outcome], list[str]]]:
    """How the requests of a walk over a fresh node, with another to replicate to, went, and which steps failed."""
    with running_node(tmp_path_factory.mktemp("walk")) as node, running_node(tmp_path_factory.mktemp("peer")) as peer:
        client = Client(node.address, {node.user: node.password})
        walker = Walker(client, peer=peer.address)
        outcomes = list(walker.walk(merged(read_recording(folder / RECORDING), read_beside())))
        client.close()
        yield outcomes, walker.failed_steps


def test_a_walk_is_answered_as_harbor_answered_it(walked: tuple[list[Outcome], list[str]]) -> None:
    recorded = [outcome for outcome in walked[0] if outcome.row.group != BESIDE]
    same, report = percentage(recorded), render(recorded, walked[1])
    assert not walked[1], report
    if os.environ.get("WALK_REPORT"):
        Path(os.environ["WALK_REPORT"]).write_text(report, encoding="utf-8")
    assert same >= tomllib.loads(RATCHET.read_text(encoding="utf-8"))["percent_min"], report


def test_what_is_asked_beside_the_recorded_requests_is_answered_by_the_same_rules(
    walked: tuple[list[Outcome], list[str]],
) -> None:
    beside = [outcome for outcome in walked[0] if outcome.row.group == BESIDE]
    assert len(beside) > 300
    different = [f"{one.row.seq} {one.row.method} {one.row.path}: {one.differences}" for one in beside if one.differences]
    assert not different, "\n".join(different)


@pytest.mark.parametrize(
    ("theirs", "ours", "found"),
    [
        ({"a": 1, "b": None}, {"a": 2, "b": None, "c": 3}, []),
        ({"a": 1}, {}, ["body.a is missing"]),
        ({"a": 1}, {"a": "1"}, ["body.a is string, not number"]),
        ({"a": True}, {"a": 1}, ["body.a is number, not boolean"]),
        ({"a": {"b": 1}}, {"a": {}}, ["body.a.b is missing"]),
        ([{"a": 1}], [], ["body is empty"]),
        ([{"a": 1}, {"a": 1, "b": 2}], [{"a": 5}], []),
        ([{"a": 1}], [{"a": 1}, {"b": 1}], ["body[].a is missing"]),
        ([], [{"a": 1}], []),
        (None, [], ["body is array, not null"]),
    ],
)
def test_shapes_differ_by_missing_fields_and_other_types(theirs: Any, ours: Any, found: list[str]) -> None:  # noqa: ANN401
    assert list(differences(theirs, ours)) == found


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/api/v2.0/users/22", [("users", 22)]),
        ("/api/v2.0/projects/100/members/46", [("projects", 100), ("members", 46)]),
        ("/api/v2.0/projects/tp/robots/44", [("robots", 44)]),
        ("/api/v2.0/robots/44", [("robots", 44)]),
        ("/api/v2.0/projects/tp/repositories/r/artifacts/v1/labels/12", [("labels", 12)]),
        (
            "/api/v2.0/replication/executions/120/tasks/7/log",
            [("replication/executions", 120), ("replication/executions/tasks", 7)],
        ),
        ("/v2/tp/r/manifests/1", []),
    ],
)
def test_an_id_in_a_path_belongs_to_its_collection(path: str, found: list[tuple[str, int]]) -> None:
    assert list(numbers_in(path)) == found


def test_requests_are_made_with_this_nodes_ids() -> None:
    names = Names({"sha256:" + "a" * 64: "sha256:" + "b" * 64}, {})
    names.learn_location("/api/v2.0/projects/100", "/api/v2.0/projects/7")
    names.learn_location("/api/v2.0/projects/100/webhook/policies/13", "/api/v2.0/projects/7/webhook/policies/2")
    names.learn_location("/api/v2.0/registries/9", "/api/v2.0/registries/1")
    assert names.path("/api/v2.0/projects/100/webhook/jobs?policy_id=13") == "/api/v2.0/projects/7/webhook/jobs?policy_id=2"
    assert (
        names.path("/api/v2.0/robots?q=Level%3Dproject,ProjectID%3D100") == "/api/v2.0/robots?q=Level%3Dproject,ProjectID%3D7"
    )
    assert names.path("/v2/a/blobs/sha256:" + "a" * 64) == "/v2/a/blobs/sha256:" + "b" * 64
    body = {"dest_registry": {"id": 9}, "project_id": 100, "name": "x", "id": 99999}
    sent = {"dest_registry": {"id": 1}, "project_id": 7, "name": "x", "id": 99999}
    assert names.body(body, "/api/v2.0/replication/policies") == sent
