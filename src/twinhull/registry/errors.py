"""How the data plane says no: the codes and the body of the OCI distribution specification 1.1, "Error Codes"."""

from __future__ import annotations

from typing import Final

import msgspec

from twinhull.kit import errors
from twinhull.kit.errors import TwinhullError
from twinhull.web.asgi import Answer, Headers, Scope
from twinhull.web.errors import retry_after_of, status_of
from twinhull.web.middleware import OriginOf

API_VERSION: Final = (b"docker-distribution-api-version", b"registry/2.0")
JSON_TYPE: Final = (b"content-type", b"application/json")
SERVICE: Final = "harbor-registry"
DETAIL_LENGTH_MAX: Final = 1000

CODES: Final[dict[type[TwinhullError], str]] = {
    TwinhullError: "UNKNOWN",
    # -- kinds
    errors.NotFound: "NAME_UNKNOWN",
    errors.Conflict: "DENIED",
    errors.PreconditionFailed: "DENIED",
    errors.Denied: "DENIED",
    errors.ReadOnlyMode: "DENIED",
    errors.QuotaExceeded: "DENIED",
    errors.Unauthenticated: "UNAUTHORIZED",
    errors.Invalid: "UNSUPPORTED",
    errors.TooLarge: "SIZE_INVALID",
    errors.TooMany: "TOOMANYREQUESTS",
    errors.Unavailable: "UNAVAILABLE",
    errors.Damaged: "UNAVAILABLE",
    errors.Futile: "DENIED",
    # -- registry content
    errors.BlobUnknown: "BLOB_UNKNOWN",
    errors.BlobInUse: "UNSUPPORTED",
    errors.BlobUploadUnknown: "BLOB_UPLOAD_UNKNOWN",
    errors.BlobUploadInvalid: "BLOB_UPLOAD_INVALID",
    errors.ManifestUnknown: "MANIFEST_UNKNOWN",
    errors.RepositoryUnknown: "NAME_UNKNOWN",
    errors.DigestInvalid: "DIGEST_INVALID",
    errors.SizeInvalid: "SIZE_INVALID",
    errors.RangeInvalid: "BLOB_UPLOAD_INVALID",
    errors.NameInvalid: "NAME_INVALID",
    errors.TagInvalid: "MANIFEST_INVALID",
    errors.ManifestInvalid: "MANIFEST_INVALID",
    errors.ManifestTooLarge: "MANIFEST_INVALID",
    errors.ManifestBlobUnknown: "MANIFEST_BLOB_UNKNOWN",
    errors.ManifestInUse: "UNSUPPORTED",
    errors.TagImmutable: "DENIED",
    errors.TagUndeletable: "UNSUPPORTED",
    errors.Unsupported: "UNSUPPORTED",
    errors.Unstorable: "UNSUPPORTED",
    errors.StorageFull: "UNAVAILABLE",
    # -- accounts
    errors.ProjectUnknown: "NAME_UNKNOWN",
    errors.ProjectNotEmpty: "DENIED",
    errors.UserUnknown: "DENIED",
    errors.TokenInvalid: "UNAUTHORIZED",
    errors.LoginSlowedDown: "TOOMANYREQUESTS",
    # -- foreign registries
    errors.RegistryUnreachable: "UNAVAILABLE",
    errors.RegistryRefused: "DENIED",
    errors.RegistryRejected: "UNSUPPORTED",
    errors.RegistryLacks: "MANIFEST_UNKNOWN",
    errors.RegistryBusy: "TOOMANYREQUESTS",
    # -- cluster
    errors.JoinRefused: "DENIED",
    errors.NotAMember: "DENIED",
    errors.PeerUnavailable: "UNAVAILABLE",
    errors.ClockAhead: "UNAVAILABLE",
    errors.SnapshotRefused: "UNAVAILABLE",
    errors.DurabilityUnreached: "UNAVAILABLE",
    errors.ProtocolError: "UNSUPPORTED",
    errors.SettingsInvalid: "UNSUPPORTED",
}


class Unauthorized(errors.Unauthenticated):
    """The caller lacks rights, or has not said who they are; the answer tells where to get a token."""

    def __init__(self, message: str, *, scopes: str = "", detail: object = None) -> None:
        """Say which scopes a token must have ("repository:library/app:pull,push"), several parted by spaces."""
        super().__init__(message, detail=detail)
        self.scopes = scopes


class MethodNotAllowed(errors.Unsupported):
    """The path is right, but not with this method."""

    def __init__(self, message: str, *, allowed: str) -> None:
        """Say which methods there are."""
        super().__init__(message)
        self.allowed = allowed


class TooManyTags(errors.TooLarge):
    """More tags in one request than are taken."""


_OWN_STATUSES: Final[dict[type[TwinhullError], int]] = {
    MethodNotAllowed: 405,
    TooManyTags: 414,
    # OCI distribution 1.1, "Deleting tags": where a tag can't be deleted, 400 or 405; as in Harbor the former.
    errors.TagUndeletable: 400,
}


def code_of(error: TwinhullError) -> str:
    """Return the code of the nearest class that has one."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


class ErrorAnswers:
    """Turns failures into answers; knows how clients get a token."""

    def __init__(self, *, origin_of: OriginOf) -> None:
        """Take what tells the address that the client used: tokens are had at the same one."""
        self._origin_of = origin_of

    def render(self, scope: Scope, error: TwinhullError) -> Answer:
        """Return the answer that says this failure."""
        status = _OWN_STATUSES.get(type(error)) or status_of(error)
        headers: Headers = [API_VERSION, JSON_TYPE]
        if isinstance(error, errors.Unauthenticated):
            headers.append((b"www-authenticate", self._challenge(scope, error)))
        elif isinstance(error, MethodNotAllowed):
            headers.append((b"allow", error.allowed.encode("ascii")))
        elif isinstance(error, errors.RangeInvalid):
            headers.extend(_range_headers(scope, error))
        retry_after_s = retry_after_of(error)
        if retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % retry_after_s))
        body = b"" if scope["method"] == "HEAD" else error_body(error)
        # A HEAD's answer has no body; a length would make some clients wait for one on an error.
        headers.append((b"content-length", b"%d" % len(body)))
        return Answer(status, headers, body)

    def _challenge(self, scope: Scope, error: errors.Unauthenticated) -> bytes:
        challenge = f'Bearer realm="{self._origin_of(scope)}/service/token",service="{SERVICE}"'
        scopes = error.scopes if isinstance(error, Unauthorized) else ""
        if scopes:
            challenge += f',scope="{scopes}"'
        if isinstance(error, errors.TokenInvalid):
            challenge += ',error="invalid_token"'
        return challenge.encode("latin-1")


def _range_headers(scope: Scope, error: errors.RangeInvalid) -> Headers:
    """Return what tells the client how to go on: where its upload stands, or how long the blob is."""
    path = str(scope["path"])
    if "/blobs/uploads/" not in path:
        return [(b"content-range", b"bytes */%d" % error.size_bytes)]
    return [(b"location", path.encode("ascii", "replace")), (b"range", received_range(error.size_bytes))]


def received_range(offset: int) -> bytes:
    """Return the Range header of an upload that has received so many bytes; of none it is that of one, as others do."""
    return b"0-%d" % max(0, offset - 1)


def error_body(error: TwinhullError) -> bytes:
    """Return the body: {"errors": [{code, message, detail}]}."""
    entry: dict[str, object] = {"code": code_of(error), "message": error.message[:DETAIL_LENGTH_MAX]}
    if error.hint:
        entry["message"] = str(error)[:DETAIL_LENGTH_MAX]
    if error.detail is not None:
        entry["detail"] = error.detail
    return msgspec.json.encode({"errors": [entry]})
