"""Each failure has Harbor's code, and none tells what went wrong inside."""

from __future__ import annotations

import json

import pytest

from twinhull.harbor.errors import CODES, MethodNotAllowed, Unprocessable, code_of, render
from twinhull.kit import errors
from twinhull.kit.errors import TwinhullError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TwinhullError)]


@pytest.mark.parametrize("kind", KINDS)
def test_each_failure_has_a_row_of_its_own(kind: type[TwinhullError]) -> None:
    assert kind in CODES
    assert code_of(kind()) == CODES[kind]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.UserUnknown(), 404, "NOT_FOUND"),
        (errors.Denied(), 403, "FORBIDDEN"),
        (errors.TokenInvalid(), 401, "UNAUTHORIZED"),
        (errors.ProjectNotEmpty(), 412, "PRECONDITION"),
        (errors.ManifestInUse(), 412, "VIOLATE_FOREIGN_KEY_CONSTRAINT"),
        (Unprocessable("bad"), 422, "UNPROCESSABLE_ENTITY"),
        (MethodNotAllowed("PUT", ["GET"]), 405, "METHOD_NOT_ALLOWED"),
        (errors.StorageFull(), 507, "UNAVAILABLE"),
    ],
)
def test_failure_is_rendered_with_its_status_and_code(error: TwinhullError, status: int, code: str) -> None:
    answer = render({"method": "GET"}, error)
    assert answer.status == status
    assert json.loads(answer.body)["errors"][0]["code"] == code


def test_slowed_down_login_says_when_to_try_again() -> None:
    answer = render({"method": "GET"}, errors.LoginSlowedDown(retry_after_s=7))
    assert answer.status == 429
    assert (b"retry-after", b"7") in answer.headers


def test_unexpected_failure_tells_no_details() -> None:
    answer = render({"method": "GET"}, TwinhullError("the password of the database is hunter2"))
    assert answer.status == 500
    assert json.loads(answer.body) == {"errors": [{"code": "UNKNOWN", "message": "internal server error"}]}


def test_answer_to_head_has_no_body() -> None:
    answer = render({"method": "HEAD"}, errors.NotFound("project nosuch not found"))
    assert answer.body == b""
