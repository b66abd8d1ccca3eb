"""The cluster-wide settings: which there are, of which kind, and what holds until somebody sets them.

They are Harbor's configuration items, and two of our own. Unlike the settings of a node they are replicated, and changed while
nodes run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from twinhull.config.durability import LEVEL_ITEM, LOSS_ITEM
from twinhull.config.values import LEVELS, OnPeerLoss
from twinhull.kit.errors import Invalid

Value = str | int | bool | dict[str, Any] | None

TEXT_LENGTH_MAX: Final = 64 * 1024
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_INTEGER_MAX: Final = 2**63 - 1
_MINUTES_MAX: Final = 60 * 24 * 3650
_DAYS_MAX: Final = 36_500
_TRUE: Final = ("1", "t", "T", "true", "TRUE", "True")
_FALSE: Final = ("0", "f", "F", "false", "FALSE", "False")
AUTH_MODES: Final = ("db_auth", "ldap_auth", "uaa_auth", "http_auth", "oidc_auth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One setting."""

    name: str
    default: Value
    # Turns what a client sent into the value that is kept, or raises Invalid in Harbor's words.
    read: Callable[[Any], Value]
    # Stored sealed, and never shown to anybody.
    secret: bool = False
    # Harbor shows this secret as an empty text; the others it leaves out.
    shown_empty: bool = False


# -- kinds ---------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Invalid("the value must be a string")
    if len(value) > TEXT_LENGTH_MAX:
        raise Invalid(f"the value is longer than {TEXT_LENGTH_MAX} characters")
    if "\x00" in value or re.search(r"[\ud800-\udfff]", value):
        raise Invalid("the value contains illegal characters")
    return value


def _filled_text(value: object) -> str:
    if not _text(value).strip():
        raise Invalid("string value can not be empty")
    return _text(value)


def _whole(value: object) -> int:
    # Clients send numbers as numbers and as texts, and Harbor reads both.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else json.dumps(value)
    if not _INTEGER.fullmatch(text):
        raise Invalid(f'strconv.Atoi: parsing "{text[:64]}": invalid syntax')
    if len(text) > 20 or abs(int(text)) > _INTEGER_MAX:
        raise Invalid(f'strconv.Atoi: parsing "{text[:64]}": value out of range')
    return int(text)


def _between(low: int, high: int) -> Callable[[Any], int]:
    def read(value: object) -> int:
        number = _whole(value)
        if not low <= number <= high:
            raise Invalid(f"the value must be between {low} and {high}")
        return number

    return read


def _port(value: object) -> int:
    number = _whole(value)
    if number < 1:
        raise Invalid("network port should be greater than 0")
    if number > 65_535:
        raise Invalid("network port should be less than 65535")
    return number


def _scope(value: object) -> int:
    number = _whole(value)
    if number not in (0, 1, 2):
        raise Invalid("LDAP scope should be 0, 1 or 2")
    return number


def _quota(value: object) -> int:
    number = _whole(value)
    if number != -1 and number <= 0:
        raise Invalid("quota value should be -1 or great than zero")
    return number


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value) if isinstance(value, int | str) else json.dumps(value)
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise Invalid(f'strconv.ParseBool: parsing "{text[:64]}": invalid syntax')


def _one_of(*values: str) -> Callable[[Any], str]:
    def read(value: object) -> str:
        if value not in values:
            raise Invalid(f"invalid value {str(value)[:64]}, should be one of {', '.join(values)}")
        return str(value)

    return read


def _map(value: object) -> dict[str, Any] | None:
    # Harbor's own portal sends the map as a text.
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Invalid("the value is no JSON object") from None
    if value is not None and not isinstance(value, dict):
        raise Invalid("the value is no JSON object")
    if len(json.dumps(value)) > TEXT_LENGTH_MAX:
        raise Invalid(f"the value is longer than {TEXT_LENGTH_MAX} characters")
    return value


def _text_map(value: object) -> dict[str, Any]:
    found = _map(value) or {}
    if not all(isinstance(item, str) for item in found.values()):
        raise Invalid("the value is no JSON object of strings")
    return found


def _pattern(value: object) -> str:
    text = _text(value)
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        raise Invalid("the value is no regular expression") from None
    return text


def _robot_prefix(value: object) -> str:
    text = _filled_text(value)
    # What stands before it in a name could be told from a user's name no more.
    if len(text) > 64 or re.search(r"[\s:/]", text):
        raise Invalid("the prefix of robots is too long, or contains blanks, colons or slashes")
    return text


# -- the items -----------------------------------------------------------------------------------------------------


def _texts(*names: str, **defaults: str) -> list[Item]:
    named = {**dict.fromkeys(names, ""), **defaults}
    return [Item(name=name, default=default, read=_text) for name, default in named.items()]


def _flags(**defaults: bool) -> list[Item]:
    return [Item(name=name, default=default, read=_flag) for name, default in defaults.items()]


def _secrets(*names: str) -> list[Item]:
    return [Item(name=name, default="", read=_text, secret=True) for name in names]


_SIGN_IN: Final = [
    Item(name="auth_mode", default="db_auth", read=_one_of(*AUTH_MODES)),
    *_flags(primary_auth_mode=False, self_registration=False),
    *_texts("ldap_filter", "ldap_search_dn", ldap_group_membership_attribute="memberof"),
    *_texts("ldap_group_base_dn", "ldap_group_admin_dn", "ldap_group_attribute_name", "ldap_group_search_filter"),
    Item(name="ldap_url", default="", read=_filled_text),
    Item(name="ldap_base_dn", default="", read=_filled_text),
    Item(name="ldap_uid", default="cn", read=_filled_text),
    Item(name="ldap_scope", default=2, read=_scope),
    Item(name="ldap_group_search_scope", default=2, read=_scope),
    Item(name="ldap_timeout", default=5, read=_between(1, 300)),
    *_flags(ldap_verify_cert=True, ldap_group_attach_parallel=False),
    *_texts("uaa_client_id", "uaa_endpoint"),
    Item(name="uaa_client_secret", default="", read=_text, secret=True, shown_empty=True),
    *_flags(uaa_verify_cert=False),
    *_texts("http_authproxy_endpoint", "http_authproxy_tokenreview_endpoint", "http_authproxy_admin_groups"),
    *_texts("http_authproxy_admin_usernames", "http_authproxy_server_certificate"),
    *_flags(http_authproxy_verify_cert=True, http_authproxy_skip_search=False),
    *_texts("oidc_name", "oidc_endpoint", "oidc_client_id", "oidc_groups_claim", "oidc_admin_group"),
    *_texts("oidc_scope", "oidc_user_claim"),
    Item(name="oidc_group_filter", default="", read=_pattern),
    *_flags(oidc_verify_cert=True, oidc_auto_onboard=False, oidc_logout=False),
    Item(name="oidc_extra_redirect_parms", default={}, read=_text_map),
    *_secrets("ldap_search_password", "oidc_client_secret"),
]
_MAIL: Final = [
    *_texts("email_identity", email_from="admin <sample_admin@mydomain.com>", email_host="smtp.mydomain.com"),
    *_texts(email_username="sample_admin@mydomain.com"),
    Item(name="email_port", default=25, read=_port),
    *_flags(email_ssl=False, email_insecure=False),
    *_secrets("email_password"),
]
_USE: Final = [
    Item(name="project_creation_restriction", default="everyone", read=_one_of("everyone", "adminonly")),
    *_flags(read_only=False, notification_enable=True, quota_per_project_enable=True),
    *_flags(skip_audit_log_database=False, scanner_skip_update_pulltime=False),
    *_texts("audit_log_forward_endpoint", "banner_message", "disabled_audit_log_event_types"),
    Item(name="token_expiration", default=30, read=_between(1, _MINUTES_MAX)),
    Item(name="session_timeout", default=60, read=_between(1, _MINUTES_MAX)),
    Item(name="robot_token_duration", default=30, read=_between(1, _DAYS_MAX)),
    Item(name="robot_name_prefix", default="robot$", read=_robot_prefix),
    Item(name="count_per_project", default=-1, read=_quota),
    Item(name="storage_per_project", default=-1, read=_quota),
    Item(name="scan_all_policy", default=None, read=_map),
    # Our own. Empty: each node as its own settings have it.
    Item(name=LEVEL_ITEM, default="", read=_one_of("", *LEVELS)),
    Item(name=LOSS_ITEM, default="", read=_one_of("", *OnPeerLoss)),
]
ITEMS: Final[Mapping[str, Item]] = {item.name: item for item in sorted([*_SIGN_IN, *_MAIL, *_USE], key=lambda item: item.name)}
DEFAULTS: Final[Mapping[str, Value]] = {name: item.default for name, item in ITEMS.items()}

# Harbor's settings of a process and its neighbours: here they are a node's own, or there is nothing to set.
OF_A_NODE: Final = frozenset(
    {
        *("admin_initial_password", "chart_repository_url", "trivy_adapter_url", "core_url", "core_local_url"),
        *("database_type", "ext_endpoint", "jobservice_url", "max_job_workers", "notary_url", "token_service_url"),
        *("postgresql_database", "postgresql_host", "postgresql_password", "postgresql_port", "postgresql_sslmode"),
        *("postgresql_username", "postgresql_max_idle_conns", "postgresql_max_open_conns", "with_chartmuseum"),
        *("registry_storage_provider_name", "registry_url", "registry_controller_url", "with_trivy", "with_notary"),
        *("metric_enable", "metric_port", "metric_path"),
    }
)


def read_items(sent: Mapping[str, Any], current: Callable[[str], object] = lambda _name: None) -> dict[str, Value]:
    """Return the values of the items that a client sent, or raise Invalid, in Harbor's words, for the first bad one.

    Clients send back all that they were shown with one item changed (harbor-cli does), so what could not be set, but is what
    the item is now, is left out.
    """
    found: dict[str, Value] = {}
    for name, value in sent.items():
        if name in OF_A_NODE:
            raise Invalid(f"system config items cannot be updated, item: {name}")
        item = ITEMS.get(name)
        if item is None:
            raise Invalid(f"configure item is not defined in metadata, item name: {name[:128]}")
        if item.shown_empty and value == "":
            continue
        try:
            found[name] = item.read(value)
        except Invalid as error:
            if value is not None and value == current(name):
                continue
            raise Invalid(f"{error.message}, item name: {name}") from error
    return found
