"""Foreign registries and scanners: where they are, what opens them, and what may be asked of them. Who asks is elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from twinhull.auth.sealing import Sealer
from twinhull.kit.errors import Invalid
from twinhull.metadata.documents import Document

_ADDRESS_LENGTH_MAX: Final = 4096
_PORT_MAX: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A foreign registry, with what opens it."""

    # One of catalog.adapters.ADAPTERS.
    kind: str
    url: str
    # Both empty for one that is open to everybody.
    access_key: str = ""
    access_secret: str = field(default="", repr=False)
    # Take any certificate.
    insecure: bool = False
    # PEM of the authorities to trust instead of the system's.
    ca_certificate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannerEndpoint:
    """A scanner's adapter, with what opens it."""

    url: str
    # Empty, Basic, Bearer or X-ScannerAdapter-API-Key.
    auth: str = ""
    access_credential: str = field(default="", repr=False)
    skip_cert_verify: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """A mail server, with what opens it."""

    host: str
    port: int
    # Both empty for one that asks nobody to log in.
    username: str = ""
    password: str = field(default="", repr=False)
    # TLS from the first byte.
    tls: bool = False


class Foreign(Protocol):
    """Asks foreign registries and scanners, each with a short limit of time and bytes."""

    async def is_healthy(self, endpoint: Endpoint) -> bool:
        """Tell whether a registry answers, and takes the credentials where there are any."""
        ...

    async def namespaces(self, endpoint: Endpoint, part: str) -> list[str]:
        """Return the projects of a foreign Harbor whose name contains that; none of what is no Harbor. Raises Unavailable."""
        ...

    async def scanner_metadata(self, endpoint: ScannerEndpoint) -> Mapping[str, Any]:
        """Return what a scanner's adapter says of itself; raises Unavailable."""
        ...

    async def mail_answers(self, server: MailServer) -> bool:
        """Tell whether a mail server answers, and takes the login where there is one."""
        ...

    async def answers(self, url: str, *, headers: Mapping[str, str], insecure: bool) -> bool:
        """Tell whether there is an HTTP server at the address that answers with anything but a refusal or an error."""
        ...


def endpoint_of(registry: Document, sealer: Sealer) -> Endpoint:
    """Return the foreign registry that a document describes, with its secret unsealed."""
    fields = registry.fields
    sealed = str(fields.get("access_secret", ""))
    return Endpoint(
        kind=str(fields.get("type", "")),
        url=str(fields.get("url", "")),
        access_key=str(fields.get("access_key", "")),
        access_secret=sealer.unseal(sealed) if sealed else "",
        insecure=bool(fields.get("insecure")),
        ca_certificate=str(fields.get("ca_certificate", "")),
    )


def address_of(text: str) -> str:
    """Return an address of HTTP without query and fragment, `http://` where it has no scheme; raises Invalid for none."""
    address = text.strip().rstrip("/")
    if "://" not in address:
        address = f"http://{address}"
    shown = address[:256]
    if any(sign <= " " or sign == "\x7f" for sign in address) or len(address) > _ADDRESS_LENGTH_MAX:
        raise Invalid(f'parse "{shown}": invalid character in host name')
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise Invalid(f'parse "{shown}": invalid port after host') from None
    if parts.scheme not in ("http", "https"):
        raise Invalid(f"invalid scheme: {parts.scheme[:64]}")
    if not parts.hostname or (port is not None and port > _PORT_MAX):
        raise Invalid(f'parse "{shown}": no host in it')
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
