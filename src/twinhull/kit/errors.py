"""Every failure Twinhull raises on purpose, by kind. Knows nothing of HTTP: statuses and codes live with the faces."""

from __future__ import annotations

import inspect


class TwinhullError(Exception):
    """something went wrong"""

    def __init__(self, message: str | None = None, *, hint: str = "", detail: object = None) -> None:
        """Take a message (default: the class's docstring), a hint for the operator and detail for the client."""
        self.message = message or inspect.cleandoc(self.__doc__ or "").splitlines()[0]
        self.hint = hint
        self.detail = detail
        super().__init__(self.message)

    def __str__(self) -> str:
        """Return the message, and the way out where there is one."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


# -- kinds: what a caller can do about it --------------------------------------------------------------------------


class NotFound(TwinhullError):
    """not found"""


class Conflict(TwinhullError):
    """already exists"""


class PreconditionFailed(Conflict):
    """something else has to be done first"""


class Denied(TwinhullError):
    """not allowed"""


class ReadOnlyMode(Denied):
    """The system is in read only mode. Any modification is prohibited."""


class QuotaExceeded(Denied):
    """the project has no room for more"""


class Unauthenticated(TwinhullError):
    """authentication required"""


class Invalid(TwinhullError):
    """invalid input"""


class TooLarge(TwinhullError):
    """too large"""


class TooMany(TwinhullError):
    """too many requests"""

    def __init__(self, message: str | None = None, *, retry_after_s: int = 1, hint: str = "") -> None:
        """Say after how many seconds another try makes sense."""
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class Unavailable(TwinhullError):
    """not available right now"""


class Damaged(Unavailable):
    """data of this node was changed behind its back"""

    def __init__(self, message: str | None = None) -> None:
        """Say what is damaged."""
        super().__init__(message, hint="`twinhull cluster verify --repair` takes it from a peer")


class Futile(TwinhullError):
    """it makes no sense to try this again"""


# -- registry content ----------------------------------------------------------------------------------------------


class BlobUnknown(NotFound):
    """blob unknown to this repository"""


class BlobInUse(Conflict):
    """blob is named by a manifest of this repository"""


class BlobUploadUnknown(NotFound):
    """blob upload unknown to this registry"""


class BlobUploadInvalid(Invalid):
    """blob upload invalid"""


class ManifestUnknown(NotFound):
    """manifest unknown to this repository"""


class RepositoryUnknown(NotFound):
    """repository name not known to this registry"""


class DigestInvalid(Invalid):
    """provided digest is not valid, or does not match the content"""


class SizeInvalid(Invalid):
    """provided length does not match the content length"""


class RangeInvalid(Invalid):
    """requested range is not satisfiable, or chunk is out of order"""

    def __init__(self, message: str | None = None, *, size_bytes: int = 0, hint: str = "") -> None:
        """Say how many bytes there are, so that the client can ask again."""
        super().__init__(message, hint=hint)
        self.size_bytes = size_bytes


class NameInvalid(Invalid):
    """invalid repository name"""


class TagInvalid(Invalid):
    """invalid tag name"""


class ManifestInvalid(Invalid):
    """manifest invalid"""


class ManifestTooLarge(TooLarge):
    """manifest is larger than this registry takes"""


class ManifestBlobUnknown(Invalid):
    """manifest names a blob or manifest that is unknown to this repository"""


class ManifestInUse(Conflict):
    """manifest is named by an index of this repository"""


class TagImmutable(Conflict):
    """tag is immutable"""


class TagUndeletable(TagImmutable):
    """tag is immutable and cannot be deleted by itself"""


class Unsupported(Invalid):
    """the operation is unsupported"""


class Unstorable(Invalid):
    """the database does not take these values"""


class StorageFull(Unavailable):
    """no space left on this node's disk"""


# -- accounts ------------------------------------------------------------------------------------------------------


class ProjectUnknown(NotFound):
    """project unknown"""


class ProjectNotEmpty(Conflict):
    """precondition failed: the project contains repositories, can not be deleted"""


class UserUnknown(NotFound):
    """user unknown"""


class TokenInvalid(Unauthenticated):
    """token is forged, expired or for another service"""


class LoginSlowedDown(TooMany):
    """too many wrong passwords; try again later"""


# -- foreign registries --------------------------------------------------------------------------------------------


class RegistryUnreachable(Unavailable):
    """foreign registry does not answer"""


class RegistryRefused(Denied):
    """foreign registry does not take the credentials"""


class RegistryRejected(Invalid):
    """foreign registry does not take it"""


class RegistryLacks(NotFound):
    """foreign registry does not have it"""


class RegistryBusy(TooMany):
    """foreign registry takes no more requests for now"""


# -- cluster -------------------------------------------------------------------------------------------------------


class JoinRefused(Denied):
    """this join token is not valid"""


class NotAMember(Denied):
    """this node is not a member of the cluster any more"""


class PeerUnavailable(Unavailable):
    """peer does not answer"""


class ClockAhead(Unavailable):
    """another node's clock is too far ahead"""


class SnapshotRefused(Unavailable):
    """a peer's snapshot holds records that cannot be taken"""


class DurabilityUnreached(Unavailable):
    """the wanted durability level could not be reached"""


class ProtocolError(Invalid):
    """peer sent something that is not of the protocol"""


class SettingsInvalid(Invalid):
    """configuration is not valid"""
