"""What receivers are sent has the fields that Harbor sends, of the same types; Slack's form is JSON whatever is in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinhull.catalog.events import Entrance, name_of_target
from twinhull.catalog.payloads import Payload, content_type, payload_text
from twinhull.catalog.webhooks import EVENT_TYPES, Target

HTTP = Target(type="http", address="http://127.0.0.1:9/hook", payload_format="Default")
CLOUD = Target(type="http", address="http://127.0.0.1:9/hook", payload_format="CloudEvents")
SLACK = Target(type="slack", address="http://127.0.0.1:9/hook")
SOURCE = "/projects/7/webhook/policies/3"


def payload(**changed: object) -> Payload:
    given: dict[str, Any] = {
        "event_type": "PUSH_ARTIFACT",
        "occurred_ms": 1_700_000_000_123,
        "operator": "alice",
        "data": {"resources": [{"tag": "v1"}]},
        "event_id": "an-id",
    }
    return Payload(**{**given, **changed})


def test_default_form_has_harbors_fields() -> None:
    assert json.loads(payload_text(HTTP, payload(), source=SOURCE)) == {
        "type": "PUSH_ARTIFACT",
        "occur_at": 1_700_000_000,
        "operator": "alice",
        "event_data": {"resources": [{"tag": "v1"}]},
    }
    assert content_type(HTTP) == "application/json"


def test_cloud_event_has_the_attributes_of_version_one() -> None:
    assert json.loads(payload_text(CLOUD, payload(), source=SOURCE)) == {
        "specversion": "1.0",
        "id": "an-id",
        "source": SOURCE,
        "type": "harbor.artifact.pushed",
        "datacontenttype": "application/json",
        "time": "2023-11-14T22:13:20Z",
        "data": {"resources": [{"tag": "v1"}]},
        "operator": "alice",
    }
    assert content_type(CLOUD) == "application/cloudevents+json"


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_each_type_of_event_has_a_name_in_cloud_events(event_type: str) -> None:
    told = json.loads(payload_text(CLOUD, payload(event_type=event_type), source=SOURCE))
    assert told["type"].startswith("harbor.")


@given(st.text(), st.dictionaries(st.text(), st.text() | st.lists(st.text())))
def test_slack_is_sent_valid_json_within_its_limits(operator: str, data: dict[str, Any]) -> None:
    text = payload_text(SLACK, payload(operator=operator, data=data), source=SOURCE)
    blocks = json.loads(text)["blocks"]
    assert [one["text"]["type"] for one in blocks] == ["mrkdwn"] * 6
    assert all(len(one["text"]["text"]) <= 3000 for one in blocks[:3] + blocks[4:])
    # Nothing that somebody is called by, or calls something by, mentions anybody in a channel.
    assert "<" not in blocks[3]["text"]["text"]
    assert "<" not in blocks[5]["text"]["text"]


def test_artifacts_are_named_as_they_are_pulled() -> None:
    entrance = Entrance("https://registry.test:8443")
    tagged = entrance.image("team/app", digest="sha256:ab", tag="v1")
    assert (tagged.digest, tagged.tag, tagged.url) == ("sha256:ab", "v1", "registry.test:8443/team/app:v1")
    untagged = entrance.image("team/app", digest="sha256:ab")
    assert (untagged.tag, untagged.url) == ("sha256:ab", "registry.test:8443/team/app@sha256:ab")
    chart = entrance.chart("team/app", version="1.0.0")
    assert (chart.digest, chart.tag) == ("", "1.0.0")
    assert chart.url == "https://registry.test:8443/chartrepo/team/charts/app-1.0.0.tgz"


def test_name_of_a_target_follows_its_address_and_does_not_tell_it() -> None:
    other = Target(type="http", address="http://127.0.0.1:9/other")
    assert name_of_target(HTTP) != name_of_target(other)
    assert name_of_target(HTTP) == name_of_target(Target(type="http", address=HTTP.address, auth_header="secret"))
    assert "hook" not in name_of_target(HTTP)
