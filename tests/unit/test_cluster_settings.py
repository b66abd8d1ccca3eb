"""Cluster-wide settings: every item is read as Harbor reads it, and refused in Harbor's words."""

from __future__ import annotations

import json

import pytest

from twinhull.config.cluster import DEFAULTS, ITEMS, OF_A_NODE, read_items
from twinhull.kit.errors import Invalid
from twinhull.records.kinds import SETTING, TRUST_SETTING


@pytest.mark.parametrize(
    ("name", "sent", "kept"),
    [
        ("token_expiration", 60, 60),
        ("token_expiration", "60", 60),
        ("token_expiration", 60.0, 60),
        ("read_only", "true", True),
        ("read_only", False, False),
        ("read_only", 1, True),
        ("auth_mode", "ldap_auth", "ldap_auth"),
        ("ldap_scope", "0", 0),
        ("storage_per_project", -1, -1),
        ("email_port", 465, 465),
        ("oidc_extra_redirect_parms", '{"prompt": "login"}', {"prompt": "login"}),
        ("oidc_extra_redirect_parms", {"prompt": "login"}, {"prompt": "login"}),
        ("oidc_extra_redirect_parms", None, {}),
        ("scan_all_policy", None, None),
        ("oidc_group_filter", "^team-.*", "^team-.*"),
    ],
)
def test_value_is_kept_by_the_kind_of_its_item(name: str, sent: object, kept: object) -> None:
    assert read_items({name: sent}) == {name: kept}


@pytest.mark.parametrize(
    ("name", "sent", "message"),
    [
        ("token_expiration", "abc", 'strconv.Atoi: parsing "abc": invalid syntax, item name: token_expiration'),
        ("token_expiration", True, 'strconv.Atoi: parsing "true": invalid syntax, item name: token_expiration'),
        ("token_expiration", 0, f"the value must be between 1 and {60 * 24 * 3650}, item name: token_expiration"),
        ("token_expiration", 10**30, f'strconv.Atoi: parsing "{10**30}": value out of range, item name: token_expiration'),
        ("read_only", "maybe", 'strconv.ParseBool: parsing "maybe": invalid syntax, item name: read_only'),
        ("read_only", None, 'strconv.ParseBool: parsing "null": invalid syntax, item name: read_only'),
        ("ldap_url", " ", "string value can not be empty, item name: ldap_url"),
        ("ldap_scope", 3, "LDAP scope should be 0, 1 or 2, item name: ldap_scope"),
        ("email_port", 0, "network port should be greater than 0, item name: email_port"),
        ("email_port", 65_536, "network port should be less than 65535, item name: email_port"),
        ("storage_per_project", 0, "quota value should be -1 or great than zero, item name: storage_per_project"),
        ("ldap_filter", 5, "the value must be a string, item name: ldap_filter"),
        ("ldap_filter", "a\x00b", "the value contains illegal characters, item name: ldap_filter"),
        ("oidc_group_filter", "(", "the value is no regular expression, item name: oidc_group_filter"),
        ("oidc_extra_redirect_parms", [], "the value is no JSON object, item name: oidc_extra_redirect_parms"),
        ("oidc_extra_redirect_parms", {"a": 1}, "the value is no JSON object of strings, item name: oidc_extra_redirect_parms"),
        ("nosuch", 1, "configure item is not defined in metadata, item name: nosuch"),
        ("postgresql_host", "x", "system config items cannot be updated, item: postgresql_host"),
        (
            "robot_name_prefix",
            "a b",
            "the prefix of robots is too long, or contains blanks, colons or slashes, item name: robot_name_prefix",
        ),
    ],
)
def test_bad_value_is_refused_by_name(name: str, sent: object, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_items({name: sent})
    assert str(caught.value) == message


def test_defaults_are_values_of_their_items_or_empty() -> None:
    for name, default in DEFAULTS.items():
        if default not in ("", None):
            assert ITEMS[name].read(default) == default
    json.dumps(dict(DEFAULTS))


def test_no_item_is_of_the_cluster_and_of_a_node() -> None:
    assert not OF_A_NODE & ITEMS.keys()


def test_conflicts_hide_what_is_secret_among_the_settings() -> None:
    assert {name for name, item in ITEMS.items() if item.secret} == SETTING.secret_keys - {TRUST_SETTING}
