"""What a gateway is told: addresses, certificate, limits; checked once, frozen, and safe to write into nginx's file."""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

from twinhull.kit.errors import SettingsInvalid

Affinity = Literal["none", "ip"]
LogFormat = Literal["json", "text"]

_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})(?:\.[A-Za-z0-9-]{1,63})*\.?")
_USER: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}( [a-z_][a-z0-9_-]{0,31})?")
# Inside nginx's double quotes only these three mean something; control characters would break the line.
_PATH_FORBIDDEN: Final = re.compile(r'["\\$\x00-\x1f\x7f]')
_HOST_LENGTH_MAX: Final = 253
_PORT_MAX: Final = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port, as nginx and URLs write them."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read HOST:PORT, [IPV6]:PORT, or :PORT for every IPv4 address; or raise SettingsInvalid."""
        host, colon, port = text.strip().rpartition(":")
        hint = "write HOST:PORT, for example 0.0.0.0:80 or [::]:80"
        if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) <= _PORT_MAX:
            raise SettingsInvalid(f"{text[:100]!r} is not an address", hint=hint)
        if host.startswith("[") and host.endswith("]"):
            if not _is_ip(host[1:-1], version=6):
                raise SettingsInvalid(f"{text[:100]!r} is not an IPv6 address", hint=hint)
        elif host and not is_host(host):
            raise SettingsInvalid(f"{text[:100]!r} is not an address", hint=hint)
        return cls(host or "0.0.0.0", int(port))  # noqa: S104 - the administrator asked for every address

    def __str__(self) -> str:
        """Return HOST:PORT."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Backend:
    """One node's HTTP address."""

    address: Address

    @classmethod
    def parse(cls, text: str) -> Backend:
        """Read http://HOST[:PORT] or HOST:PORT; or raise SettingsInvalid."""
        hint = "write http://HOST:PORT of a node"
        if "://" not in text:
            return cls(Address.parse(text))
        try:
            parts = urlsplit(text.strip())
            port = parts.port or 80
        except ValueError as error:
            raise SettingsInvalid(f"backend {text[:100]!r} is not a URL", hint=hint) from error
        if parts.scheme == "https":
            raise SettingsInvalid(
                f"backend {text[:100]!r} speaks TLS", hint="the gateway off-loads TLS; name the node's http address"
            )
        if parts.scheme != "http" or parts.path not in {"", "/"} or parts.query or parts.fragment or "@" in parts.netloc:
            raise SettingsInvalid(f"backend {text[:100]!r} is more than an address", hint=hint)
        host = parts.hostname or ""
        return cls(Address.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"))

    @property
    def url(self) -> str:
        """Return http://HOST:PORT."""
        return f"http://{self.address}"

    def __str__(self) -> str:
        """Return http://HOST:PORT."""
        return self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """Everything a gateway needs to know; raises SettingsInvalid when made of things that don't fit."""

    backends: tuple[Backend, ...]
    """The nodes, in a fixed order (affinity depends on it)."""
    listen: tuple[Address, ...] = ()
    """Plain HTTP entrances."""
    tls_listen: tuple[Address, ...] = ()
    """TLS entrances."""
    certificate: Path | None = None
    """PEM file with the certificate and its chain, for the TLS entrances."""
    key: Path | None = None
    """PEM file with the certificate's private key."""
    redirect: bool = False
    """Send plain HTTP to the first TLS entrance instead of serving it."""
    affinity: Affinity = "none"
    """`ip` pins each client address (its /24 with IPv4) to one node."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks of proxies in front of this one whose X-Forwarded-* headers are believed."""
    http2: bool = False
    """Offer HTTP/2 on the TLS entrances; uploads by it take more than twice the CPU of HTTP/1.1 in nginx."""
    access_log: str = "off"
    """`off`, `stderr`, or the absolute path of a file."""
    access_log_format: LogFormat = "json"
    """How a line of the access log is written."""
    workers: int = 2
    """nginx worker processes."""
    worker_connections: int = 8192
    """Connections per worker, both sides counted."""
    user: str | None = None
    """USER or USER GROUP that workers run as when started by root; none: nobody."""
    timeout_s: int = 900
    """How long a client or a node may be silent in the middle of a request."""
    connect_timeout_s: int = 2
    """How long to wait for a node's connection before the next node is tried."""
    retry_timeout_s: int = 20
    """A request older than this isn't tried on another node."""
    drain_timeout_s: int = 3600
    """How long requests that began before a reload may go on."""
    stop_timeout_s: int = 30
    """How long running requests may go on when the gateway stops."""
    upload_buffer_kb: int = 256
    """Memory per upload between client and node."""
    download_buffer_kb: int = 128
    """Memory per download between node and client."""
    check_interval_s: float = 1.0
    """Pause between two checks of a node's /readyz."""
    check_timeout_s: float = 1.0
    """How long a node may take to answer a check."""
    fall: int = 3
    """Checks without an answer before a node is taken out (a refusal counts at once)."""
    rise: int = 2
    """Good checks in a row before a node is put back."""

    def __post_init__(self) -> None:
        """Check every value, and the values against each other."""
        if not self.backends:
            raise SettingsInvalid("a gateway needs a node behind it", hint="give --backend http://HOST:PORT, once per node")
        if len(set(self.backends)) != len(self.backends):
            raise SettingsInvalid("a backend is named twice")
        if not self.listen and not self.tls_listen:
            raise SettingsInvalid("a gateway needs an address", hint="give --listen HOST:PORT or --tls-listen HOST:PORT")
        entrances = self.listen + self.tls_listen
        if len(set(entrances)) != len(entrances):
            raise SettingsInvalid("an address to listen on is named twice")
        self._check_tls()
        self._check_words()
        self._check_numbers()

    def _check_tls(self) -> None:
        if self.tls_listen and (self.certificate is None or self.key is None):
            raise SettingsInvalid("a TLS entrance needs a certificate and its key", hint="give --cert FILE and --key FILE")
        if self.redirect and not self.tls_listen:
            raise SettingsInvalid("there is no TLS entrance to redirect to", hint="give --tls-listen HOST:PORT")
        for path in (self.certificate, self.key):
            if path is not None:
                quoted_path(path)

    def _check_words(self) -> None:
        for name, value, known in (
            ("affinity", self.affinity, get_args(Affinity)),
            ("access_log_format", self.access_log_format, get_args(LogFormat)),
        ):
            if value not in known:
                raise SettingsInvalid(f"{name} {value!r} is unknown", hint=f"one of {', '.join(known)}")
        if self.access_log not in {"off", "stderr"}:
            quoted_path(self.access_log)
        if self.user is not None and not _USER.fullmatch(self.user):
            raise SettingsInvalid(f"user {self.user[:60]!r} is not valid", hint="write USER or USER GROUP")
        for network in self.trusted_proxies:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise SettingsInvalid(f"trusted proxy {network[:60]!r} is not a network", hint="write 10.0.0.0/8") from error

    def _check_numbers(self) -> None:
        for name, lowest, highest in _LIMITS:
            value = getattr(self, name)
            kinds = (int,) if isinstance(lowest, int) else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not lowest <= value <= highest:
                raise SettingsInvalid(f"{name} is {value!r}", hint=f"a number from {lowest} to {highest}")


_LIMITS: Final[tuple[tuple[str, float, float], ...]] = (
    ("workers", 1, 256),
    ("worker_connections", 64, 1_000_000),
    ("timeout_s", 1, 86_400),
    ("connect_timeout_s", 1, 75),
    ("retry_timeout_s", 1, 86_400),
    ("drain_timeout_s", 1, 86_400),
    ("stop_timeout_s", 0, 3_600),
    ("upload_buffer_kb", 8, 4_096),
    ("download_buffer_kb", 8, 4_096),
    ("check_interval_s", 0.01, 60.0),
    ("check_timeout_s", 0.01, 60.0),
    ("fall", 1, 100),
    ("rise", 1, 100),
)


def is_host(text: str) -> bool:
    """Tell whether the text is a host name or an IPv4 address, and nothing that nginx would read as more."""
    if len(text) > _HOST_LENGTH_MAX or not _HOST.fullmatch(text):
        return False
    return _is_ip(text, version=4) if re.fullmatch(r"[0-9.]+", text) else True


def quoted_path(path: str | Path) -> str:
    """Return an absolute path as one nginx word, or raise SettingsInvalid if it could be read as anything else."""
    text = str(path)
    if not Path(text).is_absolute() or _PATH_FORBIDDEN.search(text):
        raise SettingsInvalid(
            f"path {text[:200]!r} can't be used", hint='an absolute path without ", \\, $ and control characters'
        )
    return f'"{text}"'


# What the command line calls by another name is understood in a file too.
_OPTIONS: Final = {"backend": "backends", "cert": "certificate", "trusted_proxy": "trusted_proxies"}


def read_gateway_toml(path: Path) -> dict[str, Any]:
    """Return the file's settings by field name, with relative paths made absolute; or raise SettingsInvalid."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsInvalid(f"{path} can't be read: {error}") from error
    for option, name in _OPTIONS.items():
        if option in found:
            if name in found:
                raise SettingsInvalid(f"{path} has both {option} and {name}", hint="they are the same setting")
            found[name] = found.pop(option)
    for name in ("certificate", "key", "access_log"):
        value = found.get(name)
        if isinstance(value, str) and not (name == "access_log" and value in {"off", "stderr"}):
            found[name] = str(path.absolute().parent / value)
    return found


def gateway_settings(values: Mapping[str, Any]) -> GatewaySettings:
    """Return settings from plain values, as files and command lines hold them, or raise SettingsInvalid."""
    kinds = {field.name: str(field.type) for field in fields(GatewaySettings)}
    made: dict[str, Any] = {}
    for name, value in values.items():
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, n=1)
            raise SettingsInvalid(f"unknown setting {name[:60]!r}", hint=f"did you mean {near[0]}?" if near else "")
        made[name] = _convert(name, kinds[name], value)
    made.setdefault("backends", ())
    return GatewaySettings(**made)


def _convert(name: str, kind: str, value: object) -> object:
    if kind.startswith("tuple["):
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise SettingsInvalid(f"{name} must be a list of texts")
        if "Backend" in kind:
            return tuple(Backend.parse(text) for text in texts)
        return tuple(Address.parse(text) for text in texts) if "Address" in kind else tuple(texts)
    wanted = bool if kind == "bool" else (int, float) if kind in {"int", "float"} else str
    if not isinstance(value, wanted) or (kind != "bool" and isinstance(value, bool)):
        raise SettingsInvalid(
            f"{name} must be {'true or false' if kind == 'bool' else 'a number' if kind in {'int', 'float'} else 'a text'}"
        )
    return Path(str(value)) if "Path" in kind else value


def _is_ip(text: str, *, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version and "%" not in text
    except ValueError:
        return False
