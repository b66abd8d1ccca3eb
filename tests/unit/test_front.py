"""The page at `/`: says how to begin, at the right address, and says nothing that helps an attacker."""

from __future__ import annotations

import pytest
from starlette.types import Message

from twinhull.portal.front import front_routes
from twinhull.web.app import routed
from twinhull.web.asgi import Scope


async def page(origin: str, external_url: str = "") -> tuple[int, dict[str, str], str]:
    """Return status, headers and text of the page as it is shown at that origin."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": "GET", "path": "/", "root_path": "", "query_string": b"", "headers": []}
    await routed("", front_routes(lambda _scope: origin, external_url))(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]).decode()


@pytest.mark.parametrize(
    ("external_url", "host"), [("", "node.example:8080"), ("https://hub.example/", "hub.example"), ("http://h:1", "h:1")]
)
async def test_page_names_the_address_to_log_in_at(external_url: str, host: str) -> None:
    status, headers, text = await page("http://node.example:8080", external_url)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert f"docker login {host}\n" in text


async def test_page_escapes_an_address_and_runs_nothing() -> None:
    _, headers, text = await page("http://<script>x</script>")
    assert "<script" not in text
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
