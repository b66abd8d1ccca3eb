"""Times the lists of a running node that was filled by tools.generate: the median, and the slowest."""

from __future__ import annotations

import base64
import http.client
import statistics
import time
from collections.abc import Iterator
from typing import Final

from tools.generate.records import PROJECT_NAME, REPOSITORY_NAME

_ARTIFACTS: Final = f"/api/v2.0/projects/{PROJECT_NAME}/repositories/{REPOSITORY_NAME.partition('/')[2]}/artifacts"
LISTS: Final = {
    "artifacts, first page": f"{_ARTIFACTS}?page_size=100&with_tag=true&with_label=true",
    "artifacts, page 500": f"{_ARTIFACTS}?page=500&page_size=100&with_tag=true&with_label=true",
    "artifacts, last page": f"{_ARTIFACTS}?page=1000&page_size=100&with_tag=true&with_label=true",
    "artifacts with a tag like 9999": f"{_ARTIFACTS}?page_size=100&q=tags%3D~9999",
    "artifacts, all flags": f"{_ARTIFACTS}?page_size=100&with_label=true&with_accessory=true&with_immutable_status=true",
    "an artifact": f"{_ARTIFACTS}/v050000?with_label=true",
    "repositories, first page": f"/api/v2.0/projects/{PROJECT_NAME}/repositories?page_size=100",
    "repositories, page 900": f"/api/v2.0/projects/{PROJECT_NAME}/repositories?page=900&page_size=100",
    "all repositories": "/api/v2.0/repositories?page_size=100",
    "tags/list": f"/v2/{REPOSITORY_NAME}/tags/list?n=100&last=v050000",
    "tags/list, 10,000": f"/v2/{REPOSITORY_NAME}/tags/list",
    "catalog": "/v2/_catalog?n=100&last=big/r050000",
    "search": "/api/v2.0/search?q=r0999",
    "search for nothing": "/api/v2.0/search?q=nosuchname",
    "audit log": "/api/v2.0/audit-logs?page_size=100",
    "audit log, page 900": "/api/v2.0/audit-logs?page=900&page_size=100",
    "audit log of a project": f"/api/v2.0/projects/{PROJECT_NAME}/logs?page_size=100",
    "statistics": "/api/v2.0/statistics",
}


def time_lists(address: str, *, password: str, times: int) -> Iterator[str]:
    """Yield a line for each list: milliseconds as a client on this machine sees them."""
    host, _, port = address.rpartition(":")
    credentials = base64.b64encode(f"admin:{password}".encode()).decode()
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    for name, path in LISTS.items():
        took_ms = []
        for _ in range(times):
            started = time.perf_counter()
            connection.request("GET", path, headers={"Authorization": f"Basic {credentials}"})
            reply = connection.getresponse()
            size = len(reply.read())
            took_ms.append((time.perf_counter() - started) * 1000)
        yield (
            f"{name:32} {reply.status}  median {statistics.median(took_ms):7.1f} ms"
            f"  slowest {max(took_ms):7.1f} ms  {size:9,} bytes"
        )
