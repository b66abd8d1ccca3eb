"""Harbor's own configuration file: its keys are taken as they are, ours stand under `twinhull:`, unknown ones are refused."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import yaml

from twinhull.config.settings import SETTINGS
from twinhull.kit.errors import SettingsInvalid

# Every key of Harbor's template, v2.2 to v2.15; `*` stands for whatever lies below. Source: make/harbor.yml.tmpl.
_TREE: Final = """
_version hostname external_url harbor_admin_password data_volume self_registration max_job_workers
http.port http.relative_urls https.port https.certificate https.private_key https.strong_ssl_ciphers
ip_family.ipv6.enabled ip_family.ipv4.enabled
internal_tls.enabled internal_tls.dir internal_tls.verify_client_cert internal_tls.strong_ssl_ciphers
database.password database.max_idle_conns database.max_open_conns database.conn_max_lifetime database.conn_max_idle_time
storage_service.ca_bundle storage_service.filesystem.* storage_service.azure.* storage_service.gcs.* storage_service.s3.*
storage_service.swift.* storage_service.oss.* storage_service.redirect.disable storage_service.redirect.disabled
clair.updaters_interval trivy.* chart.absolute_url
jobservice.max_job_workers jobservice.max_job_duration_hours jobservice.job_loggers jobservice.logger_sweeper_duration
jobservice.reaper.* jobservice.metric.*
notification.webhook_job_max_retry notification.webhook_job_http_client_timeout
log.level log.local.rotate_count log.local.rotate_size log.local.location
log.external_endpoint.protocol log.external_endpoint.host log.external_endpoint.port
external_database.harbor.host external_database.harbor.port external_database.harbor.db_name
external_database.harbor.username external_database.harbor.password external_database.harbor.ssl_mode
external_database.harbor.max_idle_conns external_database.harbor.max_open_conns
external_database.harbor.conn_max_lifetime external_database.harbor.conn_max_idle_time
external_database.clair.* external_database.notary_signer.* external_database.notary_server.*
redis.* external_redis.* uaa.ca_file
proxy.http_proxy proxy.https_proxy proxy.no_proxy proxy.components network.allow_private_network_access
metric.enabled metric.port metric.path trace.*
upload_purging.enabled upload_purging.age upload_purging.interval upload_purging.dryrun
cache.enabled cache.expire_hours core.quota_update_provider quota_update_provider
"""
_KEYS: Final = frozenset(_TREE.split())
_OURS: Final = "twinhull."
# Go's durations as Harbor's file has them: 168h, 5m0s, 1.5h.
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_DURATION_UNITS_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
# Keys that only say what another key of the file, or a default of ours, says already: no use in reporting them.
_QUIET: Final = frozenset({"_version", "database.password", "upload_purging.enabled", "https.port"})


class HarborFile(NamedTuple):
    """What a harbor.yml says: our settings by path, and its keys that have no effect here."""

    values: Mapping[str, str]
    without_effect: tuple[str, ...]


def read_harbor_yml(path: Path) -> HarborFile:
    """Return what the file says, or raise SettingsInvalid naming the key and the nearest known one."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsInvalid(f"cannot read {path}: {error.strerror}", hint="name the file with --config") from error
    except UnicodeDecodeError as error:
        raise SettingsInvalid(f"{path} is not UTF-8") from error
    return parse_harbor_yml(text, str(path))


def parse_harbor_yml(text: str, source: str = "harbor.yml") -> HarborFile:
    """Return what the text says, or raise SettingsInvalid."""
    given = dict(_leaves(_load(text, source), ""))
    for key in given:
        _refuse_unknown(key, source)
    values = {key.removeprefix(_OURS): value for key, value in given.items() if key.startswith(_OURS)}
    harbors = {key: value for key, value in given.items() if not key.startswith(_OURS) and value != ""}
    translated, used = _translate(harbors, source)
    # Ours win: who writes both means the more particular one.
    without_effect = tuple(sorted(key for key in harbors if key not in used and key not in _QUIET))
    return HarborFile({**translated, **values}, without_effect)


def _load(text: str, source: str) -> dict[str, Any]:
    # BaseLoader, unlike safe_load, keeps every scalar as the text it is: `0123` stays a password and does not become 83.
    loader = yaml.BaseLoader(text)
    try:
        document = loader.get_single_data()
    except yaml.YAMLError as error:
        raise SettingsInvalid(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()
    if document in (None, ""):
        return {}
    if not isinstance(document, dict):
        raise SettingsInvalid(f"{source} must hold keys and values")
    return document


def _leaves(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}.")
        elif isinstance(value, list):
            yield path, ",".join(str(item) for item in value)
        else:
            yield path, value


def _refuse_unknown(key: str, source: str) -> None:
    if key.startswith(_OURS):
        if key.removeprefix(_OURS) in SETTINGS:
            return
        known = [_OURS + path for path in SETTINGS]
    else:
        parts = key.split(".")
        if key in _KEYS or any(".".join([*parts[:depth], "*"]) in _KEYS for depth in range(1, len(parts))):
            return
        # A key that opens a section may stand empty, as `proxy:` does when all below it is commented out.
        if any(known_key.startswith(f"{key}.") for known_key in _KEYS) or key == "twinhull":
            return
        known = [*(known_key for known_key in _KEYS if "*" not in known_key), *(_OURS + path for path in SETTINGS)]
    # Most often one of ours that stands outside `twinhull:`, or a slip of the pen.
    nearest = [_OURS + key] if key in SETTINGS else difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"did you mean {nearest[0]}?" if nearest else "see docs/reference for the keys there are"
    raise SettingsInvalid(f"{source}: unknown key {key}", hint=hint)


def _translate(harbors: Mapping[str, str], source: str) -> tuple[dict[str, str], set[str]]:
    """Return Harbor's values under our paths, and the keys that were used for them."""
    values: dict[str, str] = {}
    used: set[str] = set()

    def take(key: str, path: str) -> None:
        if key in harbors:
            values[path] = harbors[key]
            used.add(key)

    take("data_volume", "data_dir")
    take("harbor_admin_password", "admin_password")
    take("max_job_workers", "jobs.workers_max")
    take("jobservice.max_job_workers", "jobs.workers_max")
    take("log.level", "log.level")
    if values.get("log.level") == "fatal":
        values["log.level"] = "critical"
    if "http.port" in harbors:
        # Harbor publishes its port on every address of the host.
        values["listen"] = f":{harbors['http.port']}"
        used.add("http.port")
    if "upload_purging.age" in harbors and harbors.get("upload_purging.enabled", "true") != "false":
        values["limits.upload_idle_s"] = str(_seconds(harbors["upload_purging.age"], f"{source}: upload_purging.age"))
        used.add("upload_purging.age")
    url, keys = _external_url(harbors)
    if url:
        values["external_url"] = url
        used |= keys
    if "external_database.harbor.host" in harbors:
        values["database.url"] = _database_url(harbors, source)
        take("external_database.harbor.max_open_conns", "database.connections_max")
        if int(values.get("database.connections_max", "1") or 0) <= 0:
            del values["database.connections_max"]
        used |= {key for key in harbors if key.startswith("external_database.harbor.")}
    return values, used


def _external_url(harbors: Mapping[str, str]) -> tuple[str, set[str]]:
    if "external_url" in harbors:
        return harbors["external_url"].rstrip("/"), {"external_url", "hostname"}
    if "hostname" not in harbors:
        return "", set()
    secure = "https.certificate" in harbors
    scheme, usual = ("https", "443") if secure else ("http", "80")
    port = harbors.get(f"{scheme}.port", usual)
    host = harbors["hostname"]
    return f"{scheme}://{host}" + ("" if port == usual else f":{port}"), {"hostname"}


def _database_url(harbors: Mapping[str, str], source: str) -> str:
    database = {key.rpartition(".")[2]: value for key, value in harbors.items() if key.startswith("external_database.harbor.")}
    port = database.get("port", "5432")
    if not port.isdigit():
        raise SettingsInvalid(f"{source}: external_database.harbor.port {port!r} is not a port")
    user = quote(database.get("username", "postgres"), safe="")
    password = quote(database.get("password", ""), safe="")
    name = quote(database.get("db_name", "registry"), safe="")
    mode = quote(database.get("ssl_mode", "prefer"), safe="")
    return f"postgresql+psycopg://{user}:{password}@{database['host']}:{port}/{name}?sslmode={mode}"


def _seconds(text: str, where: str) -> float:
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise SettingsInvalid(f"{where}: {text!r} is not a duration", hint="write it as 168h or 30m")
    return sum(float(number) * _DURATION_UNITS_S[unit] for number, unit in parts)
