"""Who may come in, who is turned away, and what becomes of those who go."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import sqlite3
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import image
from tests.support.line import Line
from tests.support.nodes import Cluster, ClusterNode, eventually, new_name, running_cluster
from tests.support.pushes import LEVEL, check_pull, digest_of_tag, push
from tests.support.single import free_address, twinhull
from twinhull.auth.sealing import Sealer, key_id, key_of
from twinhull.kit.clock import SystemClock
from twinhull.replication.certificates import server_name
from twinhull.replication.trust import Trust

JOIN_LIMIT_S = 60


def join(directory: Path, token: str, *options: str, name: str = "newcomer") -> subprocess.CompletedProcess[str]:
    """Run a join that is expected to be refused, and return what it said."""
    command = [
        *(str(twinhull()), "cluster", "join", token, "--data-dir", str(directory), "--name", name, "--workers", "1"),
        *("--listen", free_address(), "--cluster-listen", free_address(), *options),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=JOIN_LIMIT_S)


def changed_token(token: str, **fields: str) -> str:
    """Return the token with something else written in it."""
    prefix, mark, packed = token.partition("-join-")
    document = json.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    document.update(fields)
    return prefix + mark + base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def ask_peer_port(node: ClusterNode, context: ssl.SSLContext, path: str = "/peer/v1/vector") -> int:
    """Return the status that the node's peer port answers with to a caller with this certificate."""
    host, _, port = node.cluster_address.rpartition(":")
    context.check_hostname = False
    connection = http.client.HTTPSConnection(host, int(port), timeout=10, context=context)
    try:
        connection.request("POST", path, body=b"")
        return connection.getresponse().status
    finally:
        connection.close()


def management(node: ClusterNode, method: str, path: str, body: object = None, *, status: int = 0) -> Any:  # noqa: ANN401 - JSON
    """Return what the node's management API answers to the administrator, or fail the test."""
    answer = node.manage(method, f"/{path}", body)
    assert answer.status == status if status else answer.status < 300, answer
    return answer.json() if answer.body else None


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes whose cluster these tests change, in the order in which they stand here."""
    with running_cluster(tmp_path_factory.mktemp("changing"), ("a", "b")) as cluster:
        yield cluster


@pytest.fixture
def third(changing: Cluster, tmp_path: Path) -> Iterator[ClusterNode]:
    """A node that has not joined yet; after the test it is gone, and no member."""
    node = ClusterNode(name="third", directory=tmp_path / "third", line=Line())
    yield node
    if node.process is not None:
        node.stop()
    node.line.close()
    if changing[0].state_of(node):
        changing[0].ask("POST", "/remove", {"node": node.name})


def test_join_token_is_refused_the_second_time(changing: Cluster, tmp_path: Path) -> None:
    token = changing[0].invite()
    refused_once = join(tmp_path / "one", token, name="a")
    assert refused_once.returncode == 1
    assert "a node named 'a' is a member already" in refused_once.stderr
    again = join(tmp_path / "two", token)
    assert again.returncode == 1
    assert "used already" in again.stderr
    assert "invite again" in again.stderr
    assert {member["name"] for member in changing[0].status()["members"]} == {"a", "b"}


def test_join_token_is_refused_when_it_is_of_another_cluster(changing: Cluster, tmp_path: Path) -> None:
    token = changing[0].invite()
    other_authority = join(tmp_path / "one", changed_token(token, ca_fingerprint="0" * 64))
    assert other_authority.returncode == 1
    assert "belongs to another cluster" in other_authority.stderr
    nobody = join(tmp_path / "two", changed_token(token, address=free_address()))
    assert nobody.returncode == 1
    assert "does not answer" in nobody.stderr


def test_node_that_holds_data_does_not_join_by_accident(changing: Cluster) -> None:
    changing[1].stop()
    try:
        refused = join(changing[1].data_dir, changing[0].invite())
        assert refused.returncode == 1
        assert "belongs to a node already" in refused.stderr
        assert "--merge" in refused.stderr
        assert "--discard" in refused.stderr
    finally:
        changing[1].start()


def test_peer_port_turns_away_who_has_no_certificate_of_the_cluster(changing: Cluster, tmp_path: Path) -> None:
    a = changing[0]
    bare = ssl.create_default_context(cafile=str(a.data_dir / "node" / "ca.pem"))
    assert ask_peer_port(a, bare) == 403
    assert ask_peer_port(a, bare, "/peer/v1/relay/v2/") == 403
    stranger = Trust(tmp_path / "stranger")
    stranger.found("stranger", SystemClock())
    foreign = ssl.create_default_context(cafile=str(a.data_dir / "node" / "ca.pem"))
    foreign.load_cert_chain(tmp_path / "stranger" / "node.pem", tmp_path / "stranger" / "node.key")
    with pytest.raises((ssl.SSLError, OSError)):
        ask_peer_port(a, foreign)


def test_newcomer_is_ready_only_with_everything_that_is_there(changing: Cluster, third: ClusterNode) -> None:
    a, b = changing
    contents = [(new_name(), image(f"there already {number}", layers=1)) for number in range(30)]
    for name, content in contents:
        push(a.repository(name), content, "v1")
    # So slow that there is time between joining and having it all.
    a.line.rate = b.line.rate = 60_000
    a.line.target, b.line.target = a.cluster_address, b.cluster_address
    third.start(a.invite(), wait=False)
    third.wait_ready()
    for name, content in contents:
        assert digest_of_tag(third.repository(name), "v1") == content.digest
        assert name in third.client().request("GET", "/v2/_catalog?n=1000").body.decode()
    a.line.mend()
    b.line.mend()
    for name, content in contents[::10]:
        check_pull(third.repository(name), content, "v1")
    eventually(lambda: a.state_of(third) == b.state_of(third) == "in sync", what="all see it in sync")
    name, content = new_name(), image("by the newcomer")
    assert push(third.repository(name), content, "v1").header(LEVEL) == "metadata"
    for node in changing:
        check_pull(node.repository(name), content, "v1")


def test_removed_node_is_turned_away_at_once(changing: Cluster, third: ClusterNode) -> None:
    a, b = changing
    third.start(a.invite())
    eventually(lambda: a.state_of(third) == b.state_of(third) == "in sync", what="joined")
    context = ssl.create_default_context(cafile=str(third.data_dir / "node" / "ca.pem"))
    context.load_cert_chain(third.data_dir / "node" / "node.pem", third.data_dir / "node" / "node.key")
    assert ask_peer_port(a, context) == 200
    assert "removed third" in a.cli("remove", "third")
    assert ask_peer_port(a, context) == 403
    assert ask_peer_port(b, context) == 403
    name, content = new_name(), image("after the removal")
    assert push(a.repository(name), content, "v1").header(LEVEL) == "metadata"
    check_pull(b.repository(name), content, "v1")
    assert third.repository(name).get("manifests/v1").status == 404
    for node in changing:
        assert node.state_of(third) == ""
    assert "no peer 'third'" in a.cli("remove", "third", code=1)


def test_dead_node_is_replaced_and_learns_of_it_when_it_comes_back(changing: Cluster, third: ClusterNode) -> None:
    a, b = changing
    third.start(b.invite())
    eventually(lambda: a.state_of(third) == b.state_of(third) == "in sync", what="joined")
    third.kill()
    said = b.cli("replace", "third")
    assert "removed third" in said
    assert "--name third" in said
    name, content = new_name(), image("without the dead")
    assert push(b.repository(name), content, "v1").header(LEVEL) == "metadata"
    third.start(wait=False)
    eventually(lambda: third.status()["node"]["state"] == "removed", what="it has learned of it")
    assert "this node was removed from its cluster" in third.log.read_text(encoding="utf-8")
    lost = management(third, "POST", "projects", {"project_name": "too-late"}, status=503)
    assert "removed from its cluster" in json.dumps(lost)
    assert "too-late" not in {project["name"] for project in management(a, "GET", "projects?page_size=100")}
    third.stop()
    # By a new life under the old name, with what it has.
    third.start(said.split()[-1], own_data="merge")
    check_pull(third.repository(name), content, "v1")
    eventually(lambda: a.state_of(third) == b.state_of(third) == "in sync", what="in sync again")
    assert "too-late" in {project["name"] for project in management(a, "GET", "projects?page_size=100")}
    assert "left" in third.cli("leave")
    eventually(lambda: not a.state_of(third) and not b.state_of(third), what="the others know")
    alone = third.status()
    assert [member["name"] for member in alone["members"]] == ["third"]
    own_name, own = new_name(), image("on its own")
    push(third.repository(own_name), own, "v1")
    check_pull(third.repository(own_name), own, "v1")
    check_pull(third.repository(name), content, "v1")
    assert a.repository(own_name).get("manifests/v1").status == 404
    assert "there is nothing to leave" in third.cli("leave", code=1)


def test_node_that_had_a_life_of_its_own_brings_it_along(changing: Cluster, third: ClusterNode) -> None:
    a, b = changing
    third.start()
    own_name, own = new_name(), image("made alone")
    push(third.repository(own_name), own, "v1")
    management(third, "POST", "projects", {"project_name": "own-project"})
    third.stop()
    refused = join(third.data_dir, changed_token(a.invite(), secret="x"), "--merge")
    assert refused.returncode == 1
    shared_name, shared = new_name(), image("made in the cluster")
    push(a.repository(shared_name), shared, "v1")
    third.start(b.invite(), own_data="merge")
    for node in (a, b, third):
        eventually(lambda node=node: digest_of_tag(node.repository(own_name), "v1") == own.digest, what="its images")  # type: ignore[misc]
        check_pull(node.repository(own_name), own, "v1")
        check_pull(node.repository(shared_name), shared, "v1")
        projects = management(node, "GET", "projects?page_size=100")
        assert {"library", "own-project"} <= {project["name"] for project in projects}
        assert len({project["project_id"] for project in projects}) == len(projects)
    eventually(lambda: a.state_of(third) == b.state_of(third) == "in sync", what="in sync")
    assert a.ask("POST", "/verify")["equal"]
    for node, other in ((a, third), (third, b)):
        name, content = new_name(), image(f"afterwards at {node.name}")
        assert push(node.repository(name), content, "v1").header(LEVEL) == "metadata"
        check_pull(other.repository(name), content, "v1")


def test_own_data_that_are_not_wanted_are_set_aside(changing: Cluster, third: ClusterNode) -> None:
    a = changing[0]
    third.start()
    own_name, own = new_name(), image("made alone and given up")
    push(third.repository(own_name), own, "v1")
    third.stop()
    third.start(a.invite(), own_data="discard")
    assert third.repository(own_name).get("manifests/v1").status == 404
    assert not third.has_blob(own.blobs[0].digest)
    kept = list((third.data_dir / "set-aside").iterdir())
    assert len(kept) == 1
    algorithm, _, name = own.blobs[0].digest.partition(":")
    assert (kept[0] / "blobs" / algorithm / name[:2] / name).exists()
    assert (kept[0] / "metadata.db").exists()
    assert (kept[0] / "node" / "identity.json").exists()
    third.stop()
    third.start()
    eventually(lambda: a.state_of(third) == "in sync", what="in sync")


@pytest.fixture
def namesake(changing: Cluster, tmp_path: Path) -> Iterator[ClusterNode]:
    """Another node of the third one's name."""
    node = ClusterNode(name="third", directory=tmp_path / "namesake", line=Line())
    yield node
    if node.process is not None:
        node.stop()
    node.line.close()


def test_two_of_one_name_let_in_on_both_sides_of_a_cut_are_noticed_when_it_heals(
    changing: Cluster, third: ClusterNode, namesake: ClusterNode
) -> None:
    a, b = changing
    a.pause(b)
    third.start(a.invite())
    namesake.start(b.invite())
    a.resume(b)

    def alarms(node: ClusterNode) -> list[dict[str, Any]]:
        return [alarm for alarm in node.status()["alarms"] if alarm["name"] == "nodes-alike"]

    eventually(lambda: bool(alarms(a)) and bool(alarms(b)), what="both notice")
    younger = str(namesake.status()["node"]["id"])
    assert f"cluster remove {younger}" in alarms(a)[0]["message"]
    assert "nodes-alike" in a.cli("verify", code=1)
    # A name that two have says nothing.
    assert "2 nodes are called 'third'" in a.cli("remove", "third", code=1)
    a.cli("remove", younger)
    eventually(lambda: not alarms(a) and not alarms(b), what="the alarm ends")


def test_keys_certificates_and_authority_are_renewed_while_requests_go_on(changing: Cluster, third: ClusterNode) -> None:
    a, b = changing
    name, content = new_name(), image("pulled all the time")
    push(a.repository(name), content, "v1")
    eventually(lambda: digest_of_tag(b.repository(name), "v1") == content.digest, what="there")
    files = [node.data_dir / "node" / file for node in changing for file in ("ca.pem", "node.pem", "token.key")]
    before = [path.read_bytes() for path in files]
    stop, statuses = threading.Event(), [0]

    def ask(issuer: ClusterNode, node: ClusterNode) -> None:
        # Tokens of the one hold at the other, and a new one is asked for each time.
        while not stop.is_set():
            token = issuer.client().authorization_of("GET", f"/v2/{name}/manifests/v1")
            connection = http.client.HTTPConnection(node.address, timeout=20)
            connection.request("GET", f"/v2/{name}/manifests/v1", headers={"Authorization": token})
            statuses.append(connection.getresponse().status)
            connection.close()

    asking = [threading.Thread(target=ask, args=pair) for pair in ((a, b), (b, a))]
    for thread in asking:
        thread.start()
    try:
        assert "rotation begun" in a.cli("rotate", "--authority")
        eventually(
            lambda: (
                all(path.read_bytes() != was for path, was in zip(files, before, strict=True))
                and all((node.data_dir / "node" / "ca.pem").read_bytes().count(b"BEGIN") == 1 for node in changing)
            ),
            what="all of it is new, and the old authority is gone",
        )
        pushed = new_name()
        assert push(b.repository(pushed), content, "v1").header(LEVEL) == "metadata"
    finally:
        stop.set()
        for thread in asking:
            thread.join()
    assert len(statuses) > 10
    assert set(statuses[1:]) == {200}
    b.stop()
    b.start()
    eventually(lambda: a.state_of(b) == b.state_of(a) == "in sync", what="they know each other by the new ones alone")
    third.start(b.invite())
    check_pull(third.repository(name), content, "v1")


def keys_of(node: ClusterNode) -> list[bytes]:
    return Trust(node.data_dir / "node").cluster_keys()


def sealed_at(node: ClusterNode) -> tuple[str, str]:
    """Return the client secret of the settings as it is stored on the node, and as it reads with the node's keys."""
    with closing(sqlite3.connect(node.data_dir / "metadata.db")) as database:
        (value,) = database.execute("SELECT value FROM settings WHERE name = 'oidc_client_secret'").fetchone()
    sealed = json.loads(value)
    return sealed, Sealer(Trust(node.data_dir / "node").cluster_keys).unseal(sealed)


def test_key_for_secrets_is_renewed_and_a_node_that_is_away_reads_them_all_the_time(
    changing: Cluster, third: ClusterNode
) -> None:
    a, b = changing
    third.start(a.invite())
    eventually(lambda: a.state_of(third) == b.state_of(third) == "in sync", what="in sync")
    management(a, "PUT", "configurations", {"oidc_client_secret": "first"})
    eventually(lambda: sealed_at(third)[1] == "first", what="there")
    [old] = keys_of(a)
    third.stop()
    assert "third does not have the new key for secrets yet" in a.cli("rotate", "--sealing")
    eventually(lambda: len(keys_of(b)) == 2, what="b has the new key too")
    management(b, "PUT", "configurations", {"oidc_client_secret": "second"})
    assert key_of(sealed_at(b)[0]) == key_id(old), "nothing is sealed with what not all can read"
    third.start()
    nodes = (a, b, third)
    eventually(lambda: all(len(keys_of(node)) == 1 and keys_of(node) != [old] for node in nodes), what="the old key is gone")
    assert keys_of(a) == keys_of(b) == keys_of(third)
    for node in nodes:
        sealed, secret = sealed_at(node)
        assert (key_of(sealed), secret) == (key_id(keys_of(node)[0]), "second")


def test_certificate_bears_the_nodes_own_name(changing: Cluster) -> None:
    # Whoever holds a member's address without being that member is not taken for it.
    a, b = changing
    context = ssl.create_default_context(cafile=str(a.data_dir / "node" / "ca.pem"))
    context.load_cert_chain(a.data_dir / "node" / "node.pem", a.data_dir / "node" / "node.key")
    host, _, port = b.cluster_address.rpartition(":")
    ours, theirs = (str(node.status()["node"]["id"]) for node in (a, b))
    for name, fits in ((server_name(theirs), True), (server_name(ours), False)):
        with socket.create_connection((host, int(port)), timeout=10) as plain:
            if fits:
                context.wrap_socket(plain, server_hostname=name).close()
            else:
                with pytest.raises(ssl.SSLCertVerificationError):
                    context.wrap_socket(plain, server_hostname=name)
