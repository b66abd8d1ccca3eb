"""Requests that are no proper HTTP: smuggled ones are never carried out, and nothing sent comes back as a header."""

from __future__ import annotations

from typing import Final

import pytest

from tests.functional.conformance.content import Made, artifact, check_pullable
from tests.support.registry_client import Repository, challenge_of, read_raw
from tests.support.topology import Registry

# The nodes run the same code, but the entrance reads requests in a way of its own.
TOPOLOGIES: Final = ("one", "entrance")
SILENCE_S: Final = 0.4


@pytest.fixture
def made(repository: Repository) -> Made:
    """Return an artifact that has been pushed, as v1: what smuggled requests are to delete."""
    one = artifact()
    one.push(repository)
    repository.put_manifest("v1", one.content, one.media_type).expect(201)
    return one


def delete_request(repository: Repository) -> bytes:
    """Return a whole request that would delete v1, with all rights."""
    path = repository.path("manifests/v1")
    authorization = repository.client.authorization_of("DELETE", path)
    right = f"Authorization: {authorization}\r\n" if authorization else ""
    return f"DELETE {path} HTTP/1.1\r\nHost: {repository.client.addresses[0]}\r\n{right}\r\n".encode()


def statuses_of(reply: bytes) -> list[int]:
    """Return the statuses of all answers in what came back."""
    return [int(line.split(b" ")[1]) for line in reply.split(b"\r\n") if line.startswith(b"HTTP/1.")]


# How the request around is framed; {n} is the length of its body, which is the request within. Two readers of these may see
# two different ends of the body, so that one of them takes the body for a request.
FRAMINGS: Final[dict[str, str]] = {
    "two-lengths": "Content-Length: 0\r\nContent-Length: {n}\r\n",
    "two-lengths-turned": "Content-Length: {n}\r\nContent-Length: 0\r\n",
    "list-of-lengths": "Content-Length: 0, {n}\r\n",
    "signed-length": "Content-Length: +0\r\nX: {n}\r\n",
    "negative-length": "Content-Length: -1\r\nX: {n}\r\n",
    "length-in-hex": "Content-Length: 0x0\r\nX: {n}\r\n",
    "huge-length": "Content-Length: 18446744073709551616\r\nX: {n}\r\n",
    "space-before-colon": "Content-Length : 0\r\nContent-Length: {n}\r\n",
    "folded-line": "X: a\r\n Content-Length: 0\r\nContent-Length: {n}\r\n",
}
CHUNKED_FRAMINGS: Final[dict[str, str]] = {
    "length-and-chunked": "Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n",
    "chunked-and-length": "Transfer-Encoding: chunked\r\nContent-Length: {n}\r\n",
    "two-encodings": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: {n}\r\n",
    "unknown-encoding": "Transfer-Encoding: xchunked\r\nContent-Length: {n}\r\n",
    "encoding-with-space": "Transfer-Encoding : chunked\r\nContent-Length: {n}\r\n",
    "encoding-after-tab": "Transfer-Encoding:\tchunked\r\nContent-Length: {n}\r\n",
    "encoding-in-quotes": 'Transfer-Encoding: "chunked"\r\nContent-Length: {n}\r\n',
}


@pytest.mark.parametrize("framing", [*FRAMINGS, *CHUNKED_FRAMINGS])
def test_request_within_a_request_is_not_carried_out(repository: Repository, made: Made, framing: str) -> None:
    within = delete_request(repository)
    body = within if framing in FRAMINGS else b"0\r\n\r\n" + within
    frame = (FRAMINGS | CHUNKED_FRAMINGS)[framing].format(n=len(body))
    address = repository.client.addresses[0]
    request = f"POST /v2/ HTTP/1.1\r\nHost: {address}\r\n{frame}\r\n".encode() + body
    reply = read_raw(address, request, timeout_s=SILENCE_S)
    assert 202 not in statuses_of(reply), reply
    check_pullable(repository, made, ["v1", made.digest])


@pytest.mark.parametrize(
    "framing", ["two-lengths", "two-lengths-turned", "list-of-lengths", "negative-length", "length-in-hex"]
)
def test_ambiguous_length_is_refused_and_the_connection_closed(registry: Registry, framing: str) -> None:
    address = registry.client.addresses[0]
    frame = FRAMINGS[framing].format(n=20)
    request = f"POST /v2/ HTTP/1.1\r\nHost: {address}\r\n{frame}\r\n".encode() + b"A" * 20
    assert statuses_of(read_raw(address, request)) == [400]


def test_smuggling_test_would_see_a_delete(repository: Repository, made: Made) -> None:
    # The request within, sent plainly, does delete: so the tests above can fail.
    reply = read_raw(repository.client.addresses[0], delete_request(repository), timeout_s=SILENCE_S)
    assert statuses_of(reply) == [202]
    repository.head("manifests/v1").expect(404)


@pytest.mark.parametrize(
    "request_line",
    [
        "GET",
        "GET /v2/",
        "GET  /v2/ HTTP/1.1",
        "GET /v2/ HTTP/9.9",
        "G\x00T /v2/ HTTP/1.1",
        "GET /v2/\x00 HTTP/1.1",
        "\x16\x03\x01",
    ],
)
def test_line_that_is_no_request_is_not_answered_with_success(registry: Registry, request_line: str) -> None:
    address = registry.client.addresses[0]
    request = f"{request_line}\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode("latin-1")
    reply = read_raw(address, request, timeout_s=SILENCE_S)
    assert all(status >= 400 for status in statuses_of(reply)), reply
    registry.client.request("GET", "/v2/").expect(200)


def test_endless_headers_are_refused(registry: Registry) -> None:
    address = registry.client.addresses[0]
    request = f"GET /v2/ HTTP/1.1\r\nHost: {address}\r\nX: {'A' * 2_000_000}\r\n\r\n".encode()
    reply = read_raw(address, request, timeout_s=SILENCE_S)
    assert all(status in {400, 413, 414, 431} for status in statuses_of(reply)), reply[:500]
    registry.client.request("GET", "/v2/").expect(200)


EVIL: Final = "%0d%0aX-Evil:%201%0d%0a%0d%0a"


@pytest.mark.parametrize(
    "rest",
    [
        f"manifests/{EVIL}",
        f"blobs/sha256:{EVIL}",
        f"tags/list?n=1&last={EVIL}",
        f"tags/list?n={EVIL}",
        f"referrers/sha256:{'a' * 64}?artifactType={EVIL}",
        f"referrers/{EVIL}",
    ],
)
def test_line_ends_in_an_address_make_no_headers(repository: Repository, made: Made, rest: str) -> None:
    second = artifact(artifact_type="application/vnd.example+json")
    second.push(repository)
    repository.put_manifest("v2", second.content, second.media_type).expect(201)
    answer = repository.get(rest).expect(200, 400, 404)
    assert answer.header("X-Evil") is None, answer
    for name, value in answer.headers:
        assert "\r" not in value + name, answer
        assert "\n" not in value + name, answer


def test_link_to_the_next_page_cannot_be_broken_out_of(repository: Repository, made: Made) -> None:
    for number in range(3):
        repository.put_manifest(f"t{number}", made.content, made.media_type).expect(201)
    answer = repository.get("tags/list", query=[("n", "1"), ("last", 'a>; rel="evil", <http://evil.example/')]).expect(200)
    link = answer.header("Link")
    assert link
    assert link.count("<") == link.count(">") == 1, answer
    assert "evil" not in link, answer


@pytest.mark.parametrize(
    "host", ['x",scope="evil', "x y", "x/../y", "x\\y", "x@evil.example", "x\x01y", "<script>", "käse", "x:1:2"]
)
def test_host_that_is_none_is_not_repeated(registry: Registry, host: str) -> None:
    address = registry.client.addresses[0]
    for path in ("/v2/", "/v2/library/app/manifests/v1"):
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        reply = read_raw(address, request)
        head = reply.partition(b"\r\n\r\n")[0]
        assert host.encode() not in head, reply
        assert len(statuses_of(reply)) <= 1, reply


def test_challenge_names_the_address_that_the_client_used(registry: Registry) -> None:
    if not registry.user:
        pytest.skip("the registry asks nobody")
    port = registry.client.addresses[0].rpartition(":")[2]
    for host in (f"registry.example.com:{port}", "registry.example.com", f"[::1]:{port}"):
        answer = registry.client.request("GET", "/v2/", headers={"Host": host}, authorization="").expect(401)
        scheme, parameters = challenge_of(answer)
        assert (scheme, parameters["realm"]) == ("bearer", f"http://{host}/service/token"), answer


def test_forwarded_headers_make_no_headers(registry: Registry) -> None:
    evil = 'evil.example",scope="x'
    for name in ("X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "X-Request-Id", "X-Forwarded-For"):
        answer = registry.client.request("GET", "/v2/", headers={name: evil}, authorization="")
        assert all(evil not in value for _, value in answer.headers), answer
