"""Every operation that Harbor describes is answered by a handler and asked for by a test; what is missing can only get less."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tools import operations
from tools.descriptions import ROOT, VARIABLE, Operation, described_operations, harbor_api_dir, key_of
from tools.operations import Row


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The operations of the page, looked up afresh."""
    return operations.look_up([row.operation for row in operations.table_rows(ROOT)], ROOT)


@pytest.mark.parametrize("kind", ["without_route", "without_test"])
def test_no_operation_is_missing_that_the_ratchet_does_not_know(rows: list[Row], kind: str) -> None:
    assert sorted(set(operations.missing(rows)[kind]) - set(operations.allowed(ROOT)[kind])) == []


@pytest.mark.parametrize("kind", ["without_route", "without_test"])
def test_the_ratchet_knows_no_operation_that_is_there(rows: list[Row], kind: str) -> None:
    there = sorted(set(operations.allowed(ROOT)[kind]) - set(operations.missing(rows)[kind]))
    assert there == [], "run: python -m tools.operations --tighten"


def test_the_page_names_the_handlers_and_tests_that_there_are(rows: list[Row]) -> None:
    assert (ROOT / operations.TABLE).read_text() == operations.render(rows), "run: python -m tools.operations --write"


def test_the_page_has_every_operation_of_the_descriptions() -> None:
    folder = harbor_api_dir()
    if folder is None:
        pytest.skip(f"Harbor's descriptions are not beside the checkout (${VARIABLE})")
    described = {operation.key for operation in described_operations(folder)}
    assert {row.operation.key for row in operations.table_rows(ROOT)} == described


def test_a_handler_is_found_only_for_the_method_that_it_answers(tmp_path: Path) -> None:
    routes = operations.Routes(tmp_path)
    found = {method: routes.handler_of(_operation(method, "/api/v2.0/ping")) for method in ("GET", "DELETE")}
    assert found == {"GET": "harbor/system.py `SystemApi.ping`", "DELETE": ""}
    assert routes.handler_of(_operation("GET", "/api/v2.0/nothing/{here}")) == ""


def test_a_call_counts_for_the_operation_that_it_asks_for_and_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_things.py").write_text(SOURCE)
    words = {"projects", "members", "robots", "search"}
    tests = operations.Tests(folder, words)
    named = "tests/test_things.py::test_members"
    assert tests.test_of(_operation("GET", "/api/v2.0/projects/{id}/members")) == named
    assert tests.test_of(_operation("POST", "/api/v2.0/robots")) == named
    assert tests.test_of(_operation("GET", "/api/v2.0/projects/{id}/robots")) == ""
    assert tests.test_of(_operation("PUT", "/api/v2.0/projects/{id}/members")) == ""
    assert tests.test_of(_operation("GET", "/api/v2.0/projects/{id}")) == ""


def test_path_that_has_a_name_counts_from_where_it_is_given_it(tmp_path: Path) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_things.py").write_text(NAMED)
    tests = operations.Tests(folder, {"projects", "members", "robots"})
    members, robots = "/api/v2.0/projects/{id}/members", "/api/v2.0/projects/{id}/robots/{robot}"
    assert tests.test_of(_operation("GET", members)) == "tests/test_things.py::test_named"
    assert tests.test_of(_operation("DELETE", robots)) == "tests/test_things.py::test_named"
    assert tests.test_of(_operation("PUT", members)) == ""
    # What one test gives a name to, another does not know.
    assert tests.test_of(_operation("PATCH", robots)) == ""


def test_parameters_by_another_name_are_the_same_operation() -> None:
    assert key_of("get", "/projects/{project_id}/") == key_of("GET", "/projects/{project_name_or_id}")


SOURCE: Final = """
def test_members(api):
    api("GET", f"/projects/{api.id}/members?page=1")
    api.create("/robots", {})
    api("GET", f"/projects/{api.search}/{api.path}")
"""


NAMED: Final = """
ROOT = "/projects"

def test_named(api):
    path = f"{ROOT}/{api.id}/members"
    api("GET", path)
    path = ROOT + "/1/robots"
    api("DELETE", f"{path}/{api.robot}")
    api("PUT", path)

def test_other(api, path):
    api("PATCH", f"{path}/{api.robot}")
"""


def _operation(method: str, path: str) -> Operation:
    return Operation(method=method, path=path, generations=())
