"""Every failure has its status and its code, and the data plane says them as the specification wants."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from twinhull.kit import errors
from twinhull.kit.errors import TwinhullError
from twinhull.registry.errors import CODES, ErrorAnswers, MethodNotAllowed, TooManyTags, Unauthorized, code_of
from twinhull.web.asgi import Answer, Scope
from twinhull.web.errors import STATUSES, status_of

# OCI distribution 1.1, "Error Codes", and what docker's own registry says besides.
SPECIFIED = {
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
}
BEYOND = {"UNKNOWN", "UNAVAILABLE"}


def kinds(kind: type[TwinhullError] = TwinhullError) -> Iterator[type[TwinhullError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from kinds(below)


def rendered(error: TwinhullError, *, method: str = "GET", path: str = "/v2/library/app/manifests/v1") -> Answer:
    scope: Scope = {"type": "http", "method": method, "path": path, "headers": []}
    return ErrorAnswers(origin_of=lambda _: "https://registry.example").render(scope, error)


def header(answer: Answer, name: str) -> str | None:
    return next((value.decode() for key, value in answer.headers if key.decode() == name), None)


@pytest.mark.parametrize("kind", list(kinds()))
def test_every_failure_has_a_row_in_both_tables(kind: type[TwinhullError]) -> None:
    assert kind in STATUSES
    assert kind in CODES


def test_codes_are_those_of_the_specification() -> None:
    assert set(CODES.values()) <= SPECIFIED | BEYOND


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.BlobUnknown(), 404, "BLOB_UNKNOWN"),
        (errors.BlobUploadUnknown(), 404, "BLOB_UPLOAD_UNKNOWN"),
        (errors.ManifestUnknown(), 404, "MANIFEST_UNKNOWN"),
        (errors.ManifestBlobUnknown(), 400, "MANIFEST_BLOB_UNKNOWN"),
        (errors.ManifestTooLarge(), 413, "MANIFEST_INVALID"),
        (errors.RangeInvalid(), 416, "BLOB_UPLOAD_INVALID"),
        (errors.DigestInvalid(), 400, "DIGEST_INVALID"),
        (errors.StorageFull(), 507, "UNAVAILABLE"),
        (errors.LoginSlowedDown(retry_after_s=7), 429, "TOOMANYREQUESTS"),
        (errors.TokenInvalid(), 401, "UNAUTHORIZED"),
        (errors.Denied(), 403, "DENIED"),
        (errors.BlobInUse(), 405, "UNSUPPORTED"),
        (MethodNotAllowed("no", allowed="GET"), 405, "UNSUPPORTED"),
        (TooManyTags("no"), 414, "SIZE_INVALID"),
        (TwinhullError(), 500, "UNKNOWN"),
    ],
)
def test_status_code_and_body(error: TwinhullError, status: int, code: str) -> None:
    answer = rendered(error)
    assert answer.status == status
    document = json.loads(answer.body)
    assert [entry["code"] for entry in document["errors"]] == [code]
    assert document["errors"][0]["message"]
    assert header(answer, "content-type") == "application/json"
    assert header(answer, "content-length") == str(len(answer.body))
    assert header(answer, "docker-distribution-api-version") == "registry/2.0"


def test_a_class_without_a_row_is_treated_as_its_parent() -> None:
    class Rarer(errors.ManifestUnknown):
        """A rarer kind of it."""

    assert status_of(Rarer()) == 404
    assert code_of(Rarer()) == "MANIFEST_UNKNOWN"


def test_detail_goes_to_the_client_and_a_hint_into_the_message() -> None:
    document = json.loads(rendered(errors.NameInvalid("bad name", hint="push to PROJECT/app", detail={"name": "app"})).body)
    assert document["errors"] == [
        {"code": "NAME_INVALID", "message": "bad name (push to PROJECT/app)", "detail": {"name": "app"}}
    ]


def test_a_heads_answer_has_no_body() -> None:
    answer = rendered(errors.ManifestUnknown(), method="HEAD")
    assert answer.body == b""
    assert answer.status == 404


class TestChallenge:
    def test_names_the_token_service_at_the_address_that_the_client_used(self) -> None:
        challenge = header(rendered(errors.Unauthenticated()), "www-authenticate")
        assert challenge == 'Bearer realm="https://registry.example/service/token",service="harbor-registry"'

    def test_names_the_scope_that_is_lacking(self) -> None:
        challenge = header(rendered(Unauthorized("no", scopes="repository:library/app:pull,push")), "www-authenticate")
        assert challenge is not None
        assert challenge.endswith(',scope="repository:library/app:pull,push"')

    def test_says_that_a_token_is_bad(self) -> None:
        challenge = header(rendered(errors.TokenInvalid()), "www-authenticate")
        assert challenge is not None
        assert challenge.endswith(',error="invalid_token"')

    def test_stands_on_no_other_answer(self) -> None:
        assert header(rendered(errors.Denied()), "www-authenticate") is None


class TestRanges:
    def test_of_a_blob_names_its_size(self) -> None:
        answer = rendered(errors.RangeInvalid(size_bytes=2048), path="/v2/library/app/blobs/sha256:aa")
        assert header(answer, "content-range") == "bytes */2048"

    def test_of_an_upload_names_how_far_it_got(self) -> None:
        path = "/v2/library/app/blobs/uploads/node.1"
        answer = rendered(errors.RangeInvalid(size_bytes=1024), method="PATCH", path=path)
        assert header(answer, "range") == "0-1023"
        assert header(answer, "location") == path


def test_retry_after_is_said_where_another_try_makes_sense() -> None:
    assert header(rendered(errors.LoginSlowedDown(retry_after_s=7)), "retry-after") == "7"
    assert header(rendered(errors.PeerUnavailable()), "retry-after") == "1"
    assert header(rendered(errors.ManifestUnknown()), "retry-after") is None
