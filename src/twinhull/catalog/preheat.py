"""Preheating of images in peer-to-peer networks: what may be said of an instance and of a policy, as Harbor has it. Pure."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import msgspec

from twinhull.catalog.foreign import address_of
from twinhull.jobs.cron import is_cron
from twinhull.kit.errors import Invalid
from twinhull.metadata.filtering import NUL

# By vendor: where its instances say that they are well.
HEALTH_PATHS: Final = {"dragonfly": "/healthy", "kraken": "/health"}
AUTH_MODES: Final = ("NONE", "BASIC", "OAUTH", "CUSTOM")
NAME_LENGTH_MAX: Final = 255
_NAME: Final = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
_TEXT_LENGTH_MAX: Final = 4096
_FILTER_TYPES: Final = ("repository", "tag", "label", "signature", "vulnerability")
_TRIGGERS: Final = ("manual", "scheduled", "event_based")
_T = TypeVar("_T")


class Instance(msgspec.Struct):
    """An instance of a peer-to-peer network."""

    id: int = 0
    name: str = ""
    description: str = ""
    vendor: str = ""
    endpoint: str = ""
    auth_mode: str = "NONE"
    auth_info: dict[str, str] = {}
    enabled: bool = False
    default: bool = False
    insecure: bool = False


class _Trigger(msgspec.Struct):
    type: str = ""
    trigger_setting: dict[str, Any] = {}


class _Filter(msgspec.Struct):
    type: str = ""
    value: Any = None


class Policy(msgspec.Struct):
    """Which images of a project to send into a network; filters and trigger are JSON in a text, as Harbor has them."""

    id: int = 0
    name: str = ""
    description: str = ""
    provider_id: int = 0
    filters: str = ""
    trigger: str = ""
    enabled: bool = False
    scope: str = ""
    extra_attrs: str = ""


def require_instance(instance: Instance) -> None:
    """Put the address into the form in which it is kept; raises Invalid for what can't be an instance."""
    _require_name(instance.name)
    if instance.vendor not in HEALTH_PATHS:
        raise Invalid(f"provider {instance.vendor[:64]!r} is not supported: one of {', '.join(HEALTH_PATHS)}")
    instance.endpoint = address_of(instance.endpoint)
    if instance.auth_mode not in AUTH_MODES:
        raise Invalid(f"auth_mode {instance.auth_mode[:64]!r} is not supported: one of {', '.join(AUTH_MODES)}")
    texts = (instance.description, *instance.auth_info, *instance.auth_info.values())
    if any(len(text) > _TEXT_LENGTH_MAX or NUL in text for text in texts):
        raise Invalid(f"a text has at most {_TEXT_LENGTH_MAX} characters")


def require_policy(policy: Policy) -> None:
    """Raise Invalid for what can't be a policy."""
    _require_name(policy.name)
    for text in (policy.description, policy.filters, policy.trigger, policy.scope, policy.extra_attrs):
        if len(text) > _TEXT_LENGTH_MAX or NUL in text:
            raise Invalid(f"a text has at most {_TEXT_LENGTH_MAX} characters")
    for one in _parsed(policy.filters or "[]", list[_Filter], "filters"):
        if one.type not in _FILTER_TYPES:
            raise Invalid(f"invalid filter type: {one.type[:64]}")
    trigger = _parsed(policy.trigger or '{"type": "manual"}', _Trigger, "trigger")
    if trigger.type not in _TRIGGERS:
        raise Invalid(f"invalid trigger type: {trigger.type[:64]}")
    cron = trigger.trigger_setting.get("cron", "")
    if trigger.type == "scheduled" and not (isinstance(cron, str) and is_cron(cron)):
        raise Invalid(f"invalid cron string for scheduled preheat: {str(cron)[:64]}")


def _parsed(text: str, of: type[_T], what: str) -> _T:
    try:
        return msgspec.json.decode(text, type=of)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"{what} can not be read: {error}") from error


def _require_name(name: str) -> None:
    if len(name) > NAME_LENGTH_MAX or not _NAME.fullmatch(name):
        raise Invalid("name must be of letters and digits, with single signs of .-_ between them")
