"""Which HTTP status says which failure: the one table. Codes and bodies are each face's own."""

from __future__ import annotations

from typing import Final

from twinhull.kit import errors
from twinhull.kit.errors import TwinhullError

STATUSES: Final[dict[type[TwinhullError], int]] = {
    TwinhullError: 500,
    # -- kinds
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.Denied: 403,
    errors.ReadOnlyMode: 403,
    errors.QuotaExceeded: 403,
    errors.Unauthenticated: 401,
    errors.Invalid: 400,
    errors.TooLarge: 413,
    errors.TooMany: 429,
    errors.Unavailable: 503,
    errors.Damaged: 503,
    errors.Futile: 412,
    # -- registry content
    errors.BlobUnknown: 404,
    # OCI distribution 1.1, "Deleting Blobs" and "Deleting Manifests": what a registry does not delete is answered with
    # 400 or 405.
    errors.BlobInUse: 405,
    errors.BlobUploadUnknown: 404,
    errors.BlobUploadInvalid: 400,
    errors.ManifestUnknown: 404,
    errors.RepositoryUnknown: 404,
    errors.DigestInvalid: 400,
    errors.SizeInvalid: 400,
    errors.RangeInvalid: 416,
    errors.NameInvalid: 400,
    errors.TagInvalid: 400,
    errors.ManifestInvalid: 400,
    errors.ManifestTooLarge: 413,
    errors.ManifestBlobUnknown: 400,
    errors.ManifestInUse: 405,
    # As Harbor does.
    errors.TagImmutable: 412,
    errors.TagUndeletable: 412,
    errors.Unsupported: 400,
    errors.Unstorable: 400,
    errors.StorageFull: 507,
    # -- accounts
    errors.ProjectUnknown: 404,
    errors.ProjectNotEmpty: 412,
    errors.UserUnknown: 404,
    errors.TokenInvalid: 401,
    errors.LoginSlowedDown: 429,
    # -- foreign registries
    errors.RegistryUnreachable: 503,
    errors.RegistryRefused: 403,
    errors.RegistryRejected: 400,
    errors.RegistryLacks: 404,
    errors.RegistryBusy: 429,
    # -- cluster
    errors.JoinRefused: 403,
    errors.NotAMember: 403,
    errors.PeerUnavailable: 503,
    errors.ClockAhead: 503,
    errors.SnapshotRefused: 503,
    errors.DurabilityUnreached: 503,
    errors.ProtocolError: 400,
    errors.SettingsInvalid: 400,
}


def status_of(error: TwinhullError) -> int:
    """Return the status of the nearest class that has one."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def retry_after_of(error: TwinhullError) -> int | None:
    """Return after how many seconds another try makes sense, where the failure says so."""
    if isinstance(error, errors.TooMany):
        return error.retry_after_s
    if isinstance(error, errors.Unavailable) and not isinstance(error, errors.StorageFull):
        return 1
    return None
