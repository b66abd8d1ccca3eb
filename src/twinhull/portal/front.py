"""The page at `/`: what this is and how to begin, for people who open the address in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from string import Template
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from twinhull.web.middleware import OriginOf

# Nothing is fetched from anywhere, no script runs, and nobody puts the page into a frame.
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Twinhull</title>
<style>
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem }
pre { padding: .75rem 1rem; border: 1px solid; border-radius: .25rem; overflow-x: auto }
</style>
</head>
<body>
<h1>Twinhull</h1>
<p>A container registry whose nodes are all masters.</p>
<p lang="zh">所有节点均为主节点的容器镜像仓库。</p>
<pre>docker login $host
docker push $host/PROJECT/IMAGE:TAG
docker pull $host/PROJECT/IMAGE:TAG</pre>
<ul>
<li>OCI Distribution: <a href="/v2/">/v2/</a></li>
<li>Harbor API v2.0: <a href="/api/v2.0/systeminfo">/api/v2.0/</a></li>
<li><a href="/api/v2.0/health">Health <span lang="zh">健康状态</span></a></li>
</ul>
</body>
</html>
""")


def front_routes(origin_of: OriginOf, external_url: str = "") -> Sequence[BaseRoute]:
    """Return the route; the page shows the address that is set, or else the one that it was asked at. No version is told."""

    async def front(request: Request) -> Response:
        address = external_url or origin_of(request.scope)
        host = address.partition("://")[2].rstrip("/")
        return HTMLResponse(_PAGE.substitute(host=escape(host)), headers=_HEADERS)

    return [Route("/", front)]
