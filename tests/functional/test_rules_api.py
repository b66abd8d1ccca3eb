"""Labels, immutability rules, retention and webhook policies at Harbor's paths: kept, checked and shown as Harbor does."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.support.accounts import PASSWORD, AccountsNode, add_member, make_project, make_user, rows, site
from twinhull.records.kinds import WEBHOOK, document_key

__all__ = ["site"]

SELECTORS: Final[dict[str, Any]] = {
    "tag_selectors": [{"kind": "doublestar", "decoration": "matches", "pattern": "rel-*"}],
    "scope_selectors": {"repository": [{"kind": "doublestar", "decoration": "repoMatches", "pattern": "imm/**"}]},
}
RULE: Final[dict[str, Any]] = {"disabled": False, "action": "immutable", "template": "immutable_template", **SELECTORS}
RETAIN: Final[dict[str, Any]] = {
    "disabled": False,
    "action": "retain",
    "template": "latestPushedK",
    "params": {"latestPushedK": 1},
    **SELECTORS,
}
WEBHOOK_BODY: Final[dict[str, Any]] = {
    "name": "wh",
    "description": "d",
    "targets": [{"type": "http", "address": "http://127.0.0.1:9/hook", "auth_header": "Bearer abc", "skip_cert_verify": True}],
    "event_types": ["PUSH_ARTIFACT", "DELETE_ARTIFACT"],
    "enabled": True,
}


def retention(project: int, *rules: dict[str, Any], cron: str = "") -> dict[str, Any]:
    trigger = {"kind": "Schedule", "references": {}, "settings": {"cron": cron}}
    return {"algorithm": "or", "rules": list(rules), "trigger": trigger, "scope": {"level": "project", "ref": project}}


async def members_of(site: AccountsNode, project: int) -> None:
    """Make alice a maintainer, bob a guest, and carol nobody."""
    for name, role in (("alice", 4), ("bob", 3)):
        await make_user(site, name)
        await add_member(site, project, name, role)
    await make_user(site, "carol")


class TestLabels:
    async def test_label_is_made_read_changed_and_deleted(self, site: AccountsNode) -> None:
        number = await site.admin.create("/labels", {"name": "gold", "description": "d", "color": "#FF0000", "scope": "g"})
        shown = await site.admin.ok(200, "GET", f"/labels/{number}")
        assert {key: shown[key] for key in ("id", "name", "description", "color", "scope", "project_id", "deleted")} == {
            "id": number, "name": "gold", "description": "d", "color": "#FF0000", "scope": "g", "project_id": 0,
            "deleted": False,
        }  # fmt: skip
        await site.admin.ok(200, "PUT", f"/labels/{number}", {"name": "golden", "color": "#0000FF", "scope": "g"})
        changed = await site.admin.ok(200, "GET", f"/labels/{number}")
        assert (changed["name"], changed["description"], changed["color"]) == ("golden", "", "#0000FF")
        assert changed["creation_time"] == shown["creation_time"]
        await site.admin.ok(200, "DELETE", f"/labels/{number}")
        assert (await site.admin("GET", f"/labels/{number}")).status == 404
        assert await site.admin.ok(200, "GET", "/labels?scope=g") == []

    async def test_lists_are_of_the_system_or_of_one_project(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        for name in ("gold", "silver"):
            await site.admin.create("/labels", {"name": name, "scope": "g"})
        await site.admin.create("/labels", {"name": "gold", "scope": "p", "project_id": project})
        assert [one["name"] for one in await site.admin.ok(200, "GET", "/labels?scope=g")] == ["silver", "gold"]
        assert [one["name"] for one in await site.admin.ok(200, "GET", "/labels?scope=g&name=OL")] == ["gold"]
        [own] = await site.admin.ok(200, "GET", f"/labels?scope=p&project_id={project}")
        assert (own["scope"], own["project_id"]) == ("p", project)

    @pytest.mark.parametrize(
        ("body", "status", "message"),
        [
            ({"name": "gold", "scope": "g"}, 409, "conflict label"),
            ({"name": "", "scope": "g"}, 400, "name cannot be empty \n"),
            ({"name": "x", "scope": "z"}, 400, "scope invalid: z \n"),
            ({"name": "x", "scope": "p"}, 400, "project_id invalid: 0 \n"),
            ({"name": "x", "scope": "p", "project_id": 99999}, 400, "project 99999 not found"),
            ({"name": "x" * 129, "scope": "g"}, 400, "name max length is 128 \n"),
            ({"name": 5, "scope": "g"}, 400, "Invalid json request"),
        ],
    )
    async def test_label_is_refused_in_harbors_words(
        self, site: AccountsNode, body: dict[str, Any], status: int, message: str
    ) -> None:
        await site.admin.create("/labels", {"name": "gold", "scope": "g"})
        reply = await site.admin("POST", "/labels", body)
        assert (reply.status, reply.json()["errors"][0]["message"]) == (status, message)

    async def test_another_labels_name_is_refused_on_change(self, site: AccountsNode) -> None:
        await site.admin.create("/labels", {"name": "gold", "scope": "g"})
        number = await site.admin.create("/labels", {"name": "silver", "scope": "g"})
        assert (await site.admin("PUT", f"/labels/{number}", {"name": "gold", "scope": "g"})).status == 409
        assert (await site.admin.ok(200, "GET", f"/labels/{number}"))["name"] == "silver"

    @pytest.mark.parametrize("query", ["", "?scope=z", "?scope=p", "?scope=p&project_id=x"])
    async def test_list_must_say_which_labels(self, site: AccountsNode, query: str) -> None:
        assert (await site.admin("GET", f"/labels{query}")).status == 400

    async def test_who_may_do_what_with_labels(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        await members_of(site, project)
        system = await site.admin.create("/labels", {"name": "gold", "scope": "g"})
        alice, bob, carol = (site.user(name, PASSWORD) for name in ("alice", "bob", "carol"))
        own = await alice.create("/labels", {"name": "own", "scope": "p", "project_id": project})
        assert (await bob("POST", "/labels", {"name": "x", "scope": "p", "project_id": project})).status == 403
        assert (await alice("POST", "/labels", {"name": "x", "scope": "g"})).status == 403
        assert (await alice("PUT", f"/labels/{system}", {"name": "x", "scope": "g"})).status == 403
        # As in Harbor: all see the list of the system's labels, and each by itself the administrators alone.
        assert (await carol("GET", f"/labels/{system}")).status == 403
        await site.admin.ok(200, "GET", f"/labels/{system}")
        await bob.ok(200, "GET", f"/labels/{own}")
        assert (await carol("GET", f"/labels/{own}")).status == 403
        assert (await carol("GET", f"/labels?scope=p&project_id={project}")).status == 403
        assert (await bob("DELETE", f"/labels/{own}")).status == 403
        assert [one["name"] for one in await site.anonymous.ok(200, "GET", "/labels?scope=g")] == ["gold"]
        assert (await site.anonymous("GET", f"/labels/{system}")).status == 401
        assert (await site.anonymous("GET", f"/labels?scope=p&project_id={project}")).status == 401
        assert (await site.anonymous("DELETE", f"/labels/{own}")).status == 401
        # Whether there is such a project is told to administrators alone.
        for api, status in ((site.admin, 404), (carol, 403), (site.anonymous, 401)):
            assert (await api("GET", "/labels?scope=p&project_id=99999")).status == status
        await alice.ok(200, "DELETE", f"/labels/{own}")


class TestImmutability:
    async def test_rule_is_made_switched_off_and_deleted(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        number = await site.admin.create(f"/projects/{project}/immutabletagrules", RULE)
        [shown] = await site.admin.ok(200, "GET", "/projects/team/immutabletagrules")
        assert shown == {"id": number, "project_id": project, "priority": 0, **RULE}
        await site.admin.ok(200, "PUT", f"/projects/{project}/immutabletagrules/{number}", {**shown, "disabled": True})
        [off] = await site.admin.ok(200, "GET", f"/projects/{project}/immutabletagrules")
        assert off == {**shown, "disabled": True}
        # harborapi says nothing else of a rule that it switches on or off.
        await site.admin.ok(200, "PUT", f"/projects/{project}/immutabletagrules/{number}", {"disabled": False})
        assert await site.admin.ok(200, "GET", f"/projects/{project}/immutabletagrules") == [shown]
        await site.admin.ok(200, "DELETE", f"/projects/{project}/immutabletagrules/{number}")
        again = await site.admin.ok(404, "DELETE", f"/projects/{project}/immutabletagrules/{number}")
        assert again["errors"][0]["message"] == f"the immutable rule {number} is not found."

    async def test_rules_are_listed_by_age_and_page(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        for pattern in ("a", "b", "c"):
            tags = [{"kind": "doublestar", "decoration": "matches", "pattern": pattern}]
            await site.admin.create(f"/projects/{project}/immutabletagrules", {**RULE, "tag_selectors": tags})
        reply = await site.admin("GET", f"/projects/{project}/immutabletagrules?page=1&page_size=2")
        assert [one["tag_selectors"][0]["pattern"] for one in rows(reply)] == ["a", "b"]
        assert reply["x-total-count"] == "3"

    @pytest.mark.parametrize(
        ("changed", "status"),
        [
            ({}, 409),
            ({"tag_selectors": []}, 400),
            ({"scope_selectors": {}}, 400),
            ({"action": "retain"}, 400),
            ({"tag_selectors": [{"kind": "regex", "decoration": "matches", "pattern": "x"}]}, 400),
            ({"tag_selectors": [{"kind": "doublestar", "decoration": "matches", "pattern": ""}]}, 400),
            ({"tag_selectors": "x"}, 400),
            ({"priority": 2**70}, 400),
        ],
    )
    async def test_rule_is_refused(self, site: AccountsNode, changed: dict[str, Any], status: int) -> None:
        project = await make_project(site.admin, "team")
        await site.admin.create(f"/projects/{project}/immutabletagrules", RULE)
        assert (await site.admin("POST", f"/projects/{project}/immutabletagrules", {**RULE, **changed})).status == status

    async def test_rule_of_another_project_is_not_found(self, site: AccountsNode) -> None:
        first, second = await make_project(site.admin, "one"), await make_project(site.admin, "two")
        number = await site.admin.create(f"/projects/{first}/immutabletagrules", RULE)
        assert (await site.admin("PUT", f"/projects/{second}/immutabletagrules/{number}", RULE)).status == 404
        assert (await site.admin("DELETE", f"/projects/{second}/immutabletagrules/{number}")).status == 404

    async def test_who_may_do_what_with_rules(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        await members_of(site, project)
        path = f"/projects/{project}/immutabletagrules"
        await site.user("alice", PASSWORD).create(path, RULE)
        for name in ("bob", "carol"):
            assert (await site.user(name, PASSWORD)("GET", path)).status == 403
            assert (await site.user(name, PASSWORD)("POST", path, RULE)).status == 403
        assert (await site.anonymous("GET", path)).status == 401


class TestRetention:
    async def test_policy_is_made_read_changed_and_deleted(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        number = await site.admin.create("/retentions", retention(project, RETAIN))
        shown = await site.admin.ok(200, "GET", f"/retentions/{number}")
        [rule] = shown["rules"]
        assert shown["scope"] == {"level": "project", "ref": project}
        assert (rule["template"], rule["params"]) == ("latestPushedK", {"latestPushedK": 1})
        described = await site.admin.ok(200, "GET", "/projects/team")
        assert described["metadata"]["retention_id"] == str(number)
        changed = {**retention(project, RETAIN, cron="0 0 0 * * *"), "id": number}
        await site.admin.ok(200, "PUT", f"/retentions/{number}", changed)
        assert (await site.admin.ok(200, "GET", f"/retentions/{number}"))["trigger"]["settings"] == {"cron": "0 0 0 * * *"}
        await site.admin.ok(200, "DELETE", f"/retentions/{number}")
        assert (await site.admin("GET", f"/retentions/{number}")).status == 404
        assert "retention_id" not in (await site.admin.ok(200, "GET", "/projects/team"))["metadata"]
        await site.admin.create("/retentions", retention(project, RETAIN))

    async def test_policy_does_not_come_back_with_a_project_of_the_same_name(self, site: AccountsNode) -> None:
        number = await site.admin.create("/retentions", retention(await make_project(site.admin, "team"), RETAIN))
        await site.admin.ok(200, "DELETE", "/projects/team")
        again = await make_project(site.admin, "team")
        assert (await site.admin("GET", f"/retentions/{number}")).status == 404
        assert "retention_id" not in (await site.admin.ok(200, "GET", "/projects/team"))["metadata"]
        await site.admin.create("/retentions", retention(again, RETAIN))

    async def test_project_has_one_policy_at_most(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        number = await site.admin.create("/retentions", retention(project, RETAIN))
        refused = await site.admin.ok(400, "POST", "/retentions", retention(project, RETAIN))
        assert refused["errors"][0]["message"] == f"bad request: project {project} already has retention policy {number}"

    @pytest.mark.parametrize(
        ("rules", "cron", "status"),
        [
            ([RETAIN, RETAIN], "", 409),
            ([{**RETAIN, "template": "bogus"}], "", 400),
            ([{**RETAIN, "action": "delete"}], "", 400),
            ([{**RETAIN, "params": {"latestPushedK": "many"}}], "", 400),
            ([{**RETAIN, "params": {"latestPushedK": -1}}], "", 400),
            ([{**RETAIN, "priority": number} for number in range(16)], "", 400),
            ([RETAIN], "bad", 400),
            ([{**RETAIN, "tag_selectors": []}], "", 400),
        ],
    )
    async def test_policy_is_refused(self, site: AccountsNode, rules: list[dict[str, Any]], cron: str, status: int) -> None:
        project = await make_project(site.admin, "team")
        assert (await site.admin("POST", "/retentions", retention(project, *rules, cron=cron))).status == status

    async def test_policy_for_no_project_is_refused(self, site: AccountsNode) -> None:
        refused = await site.admin.ok(400, "POST", "/retentions", retention(99999, RETAIN))
        assert refused["errors"][0]["message"] == "bad request: invalid Project id 99999"
        assert (await site.admin("POST", "/retentions", {})).status == 400

    async def test_execution_is_written_down_as_not_carried_out(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        number = await site.admin.create("/retentions", retention(project, RETAIN))
        made = await site.admin.create(f"/retentions/{number}/executions", {"dry_run": True})
        [shown] = await site.admin.ok(200, "GET", f"/retentions/{number}/executions")
        assert (shown["id"], shown["policy_id"], shown["status"], shown["dry_run"]) == (made, number, "Error", True)
        assert await site.admin.ok(200, "GET", f"/retentions/{number}/executions/{made}/tasks") == []
        assert (await site.admin("GET", f"/retentions/{number}/executions/{made}/tasks/1")).status == 404
        await site.admin.ok(200, "PATCH", f"/retentions/{number}/executions/{made}", {"action": "stop"})
        assert (await site.admin("PATCH", f"/retentions/{number}/executions/{made}", {"action": "go"})).status == 400
        assert await site.admin.ok(200, "GET", f"/retentions/{number}/executions/99999/tasks") == []
        assert (await site.admin("GET", "/retentions/99999/executions/1/tasks")).status == 400
        assert (await site.admin("POST", "/retentions/99999/executions", {"dry_run": True})).status == 400

    async def test_who_may_do_what_with_retention(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        await members_of(site, project)
        number = await site.user("alice", PASSWORD).create("/retentions", retention(project, RETAIN))
        for name in ("bob", "carol"):
            user = site.user(name, PASSWORD)
            assert (await user("GET", f"/retentions/{number}")).status == 403
            assert (await user("DELETE", f"/retentions/{number}")).status == 403
            assert (await user("POST", f"/retentions/{number}/executions", {"dry_run": True})).status == 403
            await user.ok(200, "GET", "/retentions/metadatas")
        assert (await site.anonymous("GET", f"/retentions/{number}")).status == 401
        assert (await site.anonymous("GET", "/retentions/metadatas")).status == 401

    async def test_policy_cannot_be_moved_to_another_project(self, site: AccountsNode) -> None:
        first, second = await make_project(site.admin, "one"), await make_project(site.admin, "two")
        number = await site.admin.create("/retentions", retention(first, RETAIN))
        assert (await site.admin("PUT", f"/retentions/{number}", retention(second, RETAIN))).status == 404


class TestWebhooks:
    async def test_policy_is_made_read_changed_and_deleted(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        path = f"/projects/{project}/webhook/policies"
        number = await site.admin.create(path, WEBHOOK_BODY)
        shown = await site.admin.ok(200, "GET", f"/projects/{project}/webhook/policies/{number}")
        assert (shown["creator"], shown["project_id"], shown["event_types"]) == ("admin", project, WEBHOOK_BODY["event_types"])
        assert shown["targets"] == [{**WEBHOOK_BODY["targets"][0], "payload_format": "Default"}]
        assert await site.admin.ok(200, "GET", "/projects/team/webhook/policies?q=name%3Dwh") == [shown]
        body = {**WEBHOOK_BODY, "name": "wh2", "enabled": False}
        await site.admin.ok(200, "PUT", f"/projects/{project}/webhook/policies/{number}", body)
        changed = await site.admin.ok(200, "GET", f"{path}/{number}")
        assert (changed["id"], changed["name"], changed["enabled"], changed["creator"]) == (number, "wh2", False, "admin")
        triggers = await site.admin.ok(200, "GET", f"/projects/{project}/webhook/lasttrigger")
        assert [(one["policy_name"], one["event_type"]) for one in triggers] == [
            ("wh2", "PUSH_ARTIFACT"), ("wh2", "DELETE_ARTIFACT"),
        ]  # fmt: skip
        await site.admin.ok(200, "DELETE", f"/projects/{project}/webhook/policies/{number}")
        assert (await site.admin("GET", f"{path}/{number}")).status == 404

    async def test_header_is_sealed_where_it_is_kept(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        path = f"/projects/{project}/webhook/policies"
        number = await site.admin.create(path, WEBHOOK_BODY)
        before = site.store.record(WEBHOOK.name, document_key("team", "wh"))
        assert before is not None
        assert b"Bearer" not in before.record
        await site.admin.ok(200, "PUT", f"{path}/{number}", WEBHOOK_BODY)
        # Sealed anew it would look changed, and win over what another node did to it.
        assert site.store.record(WEBHOOK.name, document_key("team", "wh")) == before

    @pytest.mark.parametrize(
        ("changed", "status", "message"),
        [
            ({}, 409, "webhook policy wh already exists in this project"),
            ({"targets": [{"type": "ftp", "address": "http://x"}]}, 400, "unsupport target type ftp with policy wh"),
            ({"targets": []}, 400, "empty notification target with policy wh"),
            ({"targets": [{"type": "http", "address": "not a url"}]}, 400, 'parse "http://not a url": invalid character'),
            ({"targets": [{"type": "http", "address": "file:///etc/passwd"}]}, 400, "invalid scheme: file"),
            ({"event_types": ["BOGUS"]}, 400, "unsupport event type BOGUS"),
            ({"event_types": []}, 400, "empty event type"),
            ({"id": 5}, 400, "cannot accept policy creating request with ID: 5"),
            ({"name": ""}, 400, "the name of a webhook policy"),
        ],
    )
    async def test_policy_is_refused_in_harbors_words(
        self, site: AccountsNode, changed: dict[str, Any], status: int, message: str
    ) -> None:
        project = await make_project(site.admin, "team")
        await site.admin.create(f"/projects/{project}/webhook/policies", WEBHOOK_BODY)
        refused = await site.admin.ok(status, "POST", f"/projects/{project}/webhook/policies", {**WEBHOOK_BODY, **changed})
        assert message in refused["errors"][0]["message"]

    async def test_nothing_was_sent_before_anything_happened(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        root = f"/projects/{project}/webhook"
        number = await site.admin.create(f"/projects/{project}/webhook/policies", WEBHOOK_BODY)
        events = await site.admin.ok(200, "GET", f"/projects/{project}/webhook/events")
        assert {"PUSH_ARTIFACT", "TAG_RETENTION"} < set(events["event_type"])
        assert events["notify_type"] == ["http", "slack"]
        assert await site.admin.ok(200, "GET", f"/projects/{project}/webhook/jobs?policy_id={number}") == []
        assert (await site.admin("GET", f"/projects/{project}/webhook/jobs")).status == 400
        assert (await site.admin("GET", f"/projects/{project}/webhook/jobs?policy_id=99999")).status == 400
        assert await site.admin.ok(200, "GET", f"{root}/policies/{number}/executions") == []
        assert (await site.admin("GET", f"/projects/{project}/webhook/policies/{number}/executions/7/tasks")).status == 404
        path = f"/projects/{project}/webhook/policies/{number}"
        assert (await site.admin("GET", path + "/executions/7/tasks/8/log")).status == 404
        assert (
            await site.admin("GET", f"/projects/{project}/webhook/policies/{number}/executions/7/tasks/8/log")
        ).status == 404

    async def test_executions_are_asked_for_by_policy(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        number = await site.admin.create(f"/projects/{project}/webhook/policies", WEBHOOK_BODY)
        reply = await site.admin("GET", f"/projects/{project}/webhook/policies/{number}/executions?page=1&page_size=5")
        assert (reply.status, reply["x-total-count"]) == (200, "0")

    async def test_who_may_do_what_with_webhooks(self, site: AccountsNode) -> None:
        project = await make_project(site.admin, "team")
        await members_of(site, project)
        path = f"/projects/{project}/webhook/policies"
        number = await site.admin.create(path, WEBHOOK_BODY)
        alice = site.user("alice", PASSWORD)
        [listed] = await alice.ok(200, "GET", path)
        assert listed["targets"][0]["auth_header"] == ""
        assert (await alice("POST", path, WEBHOOK_BODY)).status == 403
        # A maintainer may list them, and is not shown what would let them send in the project's name.
        assert (await alice("GET", f"{path}/{number}")).status == 403
        for listed_too in ("events", "lasttrigger"):
            await alice.ok(200, "GET", f"/projects/{project}/webhook/{listed_too}")
        other = await make_project(site.admin, "other")
        assert (await site.admin("GET", f"/projects/{other}/webhook/policies/{number}")).status == 400
        assert (await site.user("bob", PASSWORD)("GET", path)).status == 403
        assert (await site.anonymous("GET", path)).status == 401
