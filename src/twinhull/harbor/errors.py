"""How the management API says no: Harbor's codes and body, `{"errors": [{"code", "message"}]}`."""

from __future__ import annotations

from typing import Final

import msgspec

from twinhull.kit import errors
from twinhull.kit.errors import TwinhullError
from twinhull.web.asgi import Answer, Headers, Scope
from twinhull.web.errors import retry_after_of, status_of

MESSAGE_LENGTH_MAX: Final = 1000

CODES: Final[dict[type[TwinhullError], str]] = {
    TwinhullError: "UNKNOWN",
    # -- kinds
    errors.NotFound: "NOT_FOUND",
    errors.Conflict: "CONFLICT",
    errors.PreconditionFailed: "PRECONDITION",
    errors.Denied: "FORBIDDEN",
    errors.ReadOnlyMode: "DENIED",
    errors.QuotaExceeded: "DENIED",
    errors.Unauthenticated: "UNAUTHORIZED",
    errors.Invalid: "BAD_REQUEST",
    errors.TooLarge: "BAD_REQUEST",
    errors.TooMany: "TOO_MANY_REQUESTS",
    errors.Unavailable: "UNAVAILABLE",
    errors.Damaged: "UNAVAILABLE",
    errors.Futile: "PRECONDITION",
    # -- registry content
    errors.BlobUnknown: "NOT_FOUND",
    errors.BlobInUse: "PRECONDITION",
    errors.BlobUploadUnknown: "NOT_FOUND",
    errors.BlobUploadInvalid: "BAD_REQUEST",
    errors.ManifestUnknown: "NOT_FOUND",
    errors.RepositoryUnknown: "NOT_FOUND",
    errors.DigestInvalid: "DIGEST_INVALID",
    errors.SizeInvalid: "BAD_REQUEST",
    errors.RangeInvalid: "BAD_REQUEST",
    errors.NameInvalid: "BAD_REQUEST",
    errors.TagInvalid: "BAD_REQUEST",
    errors.ManifestInvalid: "MANIFEST_INVALID",
    errors.ManifestTooLarge: "MANIFEST_INVALID",
    errors.ManifestBlobUnknown: "BAD_REQUEST",
    errors.ManifestInUse: "VIOLATE_FOREIGN_KEY_CONSTRAINT",
    errors.TagImmutable: "PRECONDITION",
    errors.TagUndeletable: "PRECONDITION",
    errors.Unsupported: "UNSUPPORTED",
    errors.Unstorable: "BAD_REQUEST",
    errors.StorageFull: "UNAVAILABLE",
    # -- accounts
    errors.ProjectUnknown: "NOT_FOUND",
    errors.ProjectNotEmpty: "PRECONDITION",
    errors.UserUnknown: "NOT_FOUND",
    errors.TokenInvalid: "UNAUTHORIZED",
    errors.LoginSlowedDown: "TOO_MANY_REQUESTS",
    # -- foreign registries
    errors.RegistryUnreachable: "UNAVAILABLE",
    errors.RegistryRefused: "FORBIDDEN",
    errors.RegistryRejected: "BAD_REQUEST",
    errors.RegistryLacks: "NOT_FOUND",
    errors.RegistryBusy: "TOO_MANY_REQUESTS",
    # -- cluster
    errors.JoinRefused: "FORBIDDEN",
    errors.NotAMember: "FORBIDDEN",
    errors.PeerUnavailable: "UNAVAILABLE",
    errors.ClockAhead: "UNAVAILABLE",
    errors.SnapshotRefused: "UNAVAILABLE",
    errors.DurabilityUnreached: "UNAVAILABLE",
    errors.ProtocolError: "BAD_REQUEST",
    errors.SettingsInvalid: "BAD_REQUEST",
}


class Unprocessable(errors.Invalid):
    """The request is not as the API's description has it."""

    def __init__(self, problem: str) -> None:
        """Word the problem as Harbor's newer operations do."""
        super().__init__(f"validation failure list:\n{problem}")


class MethodNotAllowed(errors.Unsupported):
    """There is no such method at this path."""

    def __init__(self, method: str, allowed: list[str]) -> None:
        """Say which methods there are."""
        super().__init__(f"method {method} is not allowed, but [{','.join(allowed)}] are")
        self.allowed = allowed


class PreconditionFailed(errors.Conflict):
    """What the request stands on does not hold."""


# What only this face says, or says with another status than the data plane.
_OWN: Final[dict[type[TwinhullError], tuple[int, str]]] = {
    Unprocessable: (422, "UNPROCESSABLE_ENTITY"),
    MethodNotAllowed: (405, "METHOD_NOT_ALLOWED"),
    PreconditionFailed: (412, "PRECONDITION_FAILED"),
    errors.ProjectNotEmpty: (412, "PRECONDITION"),
    errors.ManifestInUse: (412, "VIOLATE_FOREIGN_KEY_CONSTRAINT"),
}


def code_of(error: TwinhullError) -> str:
    """Return the code of the nearest class that has one."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def render_chart_error(scope: Scope, error: TwinhullError) -> Answer:
    """Return the answer that says this failure as ChartMuseum does: helm asks for a password where it is told to."""
    status, _ = _OWN.get(type(error)) or (status_of(error), "")
    message = "internal server error" if status == 500 else str(error)[:MESSAGE_LENGTH_MAX]
    body = msgspec.json.encode({"error": message})
    headers: Headers = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="harbor"'))
    return Answer(status, headers, b"" if scope["method"] == "HEAD" else body)


def render(scope: Scope, error: TwinhullError) -> Answer:
    """Return the answer that says this failure.

    There is no WWW-Authenticate: as in Harbor, so that browsers ask no password of people whose session ran out.
    """
    status, code = _OWN.get(type(error)) or (status_of(error), code_of(error))
    headers: Headers = [(b"content-type", b"application/json; charset=utf-8")]
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode("ascii")))
    retry_after_s = retry_after_of(error)
    if retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % retry_after_s))
    # Details of what went wrong inside are for the log alone.
    message = "internal server error" if status == 500 else str(error)[:MESSAGE_LENGTH_MAX]
    body = msgspec.json.encode({"errors": [{"code": code, "message": message}]})
    headers.append((b"content-length", b"%d" % len(body)))
    return Answer(status, headers, b"" if scope["method"] == "HEAD" else body)
