"""What is stored is the same at every node's management API, at once: artifacts, tags, labels, pulls, rules, charts."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tests.support.images import image
from tests.support.nodes import Cluster, ClusterNode, eventually, new_name
from tests.support.pushes import check_pull, push


def ask(node: ClusterNode, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Ask the management API as the administrator, and return its status and JSON."""
    answer = node.manage(method, path, body)
    return answer.status, answer.json() if answer.body else None


def path_of(repository: str) -> str:
    """Return where the management API has a repository."""
    project, _, name = repository.partition("/")
    return f"/projects/{project}/repositories/{quote(quote(name, safe=''), safe='')}"


def test_every_node_shows_an_artifact_alike_right_after_it_was_written_on_any(pair: Cluster) -> None:
    a, b = pair
    content, name = image("stored api"), new_name()
    push(a.repository(name), content, "v1")
    listed = f"{path_of(name)}/artifacts"
    status, shown = ask(b, "GET", f"{listed}/v1")
    assert (status, shown["extra_attrs"]["architecture"]) == (200, "amd64")
    assert ask(a, "GET", f"{listed}/v1") == (200, shown)
    assert ask(b, "POST", f"{listed}/v1/tags", {"name": "v2"})[0] == 201
    assert [tag["name"] for tag in ask(a, "GET", f"{listed}/v1/tags")[1]] == ["v2", "v1"]
    status, _ = ask(a, "POST", "/labels", {"name": name.replace("/", "-"), "scope": "g", "color": "#FF0000"})
    assert status == 201
    (label,) = ask(b, "GET", f"/labels?scope=g&name={name.replace('/', '-')}")[1]
    assert ask(b, "POST", f"{listed}/v1/labels", {"id": label["id"]})[0] == 200
    assert [each["id"] for each in ask(a, "GET", f"{listed}/v1?with_label=true")[1]["labels"]] == [label["id"]]
    assert ask(a, "DELETE", f"{listed}/v2/tags/v1")[0] == 200
    assert ask(b, "GET", f"{listed}/v1")[0] == 404
    assert ask(b, "DELETE", path_of(name))[0] == 200
    assert ask(a, "GET", path_of(name))[0] == 404


def test_pulls_on_all_nodes_add_up(pair: Cluster) -> None:
    content, name = image("counted", layers=1), new_name()
    push(pair[0].repository(name), content, "v1")
    for node in pair:
        check_pull(node.repository(name), content, "v1")
    for node in pair:
        eventually(lambda node=node: ask(node, "GET", path_of(name))[1]["pull_count"] >= 2)  # type: ignore[misc]


def test_rule_made_on_one_node_holds_on_the_other_when_the_answer_arrives(pair: Cluster) -> None:
    a, b = pair
    project = new_name().partition("/")[2]
    assert ask(a, "POST", "/projects", {"project_name": project})[0] == 201
    repository = f"{project}/app"
    push(a.repository(repository), image("first", layers=0), "rel-1")
    rule = {
        "action": "immutable",
        "template": "immutable_template",
        "tag_selectors": [{"kind": "doublestar", "decoration": "matches", "pattern": "rel-*"}],
        "scope_selectors": {"repository": [{"kind": "doublestar", "decoration": "repoMatches", "pattern": "**"}]},
    }
    assert ask(a, "POST", f"/projects/{project}/immutabletagrules", rule)[0] == 201
    assert ask(b, "DELETE", f"{path_of(repository)}/artifacts/rel-1")[0] == 412
    assert ask(b, "DELETE", path_of(repository))[0] == 412
