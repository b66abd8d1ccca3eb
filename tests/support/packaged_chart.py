"""Helm charts as `helm package` makes them."""

from __future__ import annotations

import gzip
import io
import tarfile

import yaml


def chart(name: str, version: str, *, values: str = "image:\n  tag: v1\n", **more: str) -> bytes:
    """Return a packaged chart."""
    said = {"apiVersion": "v2", "name": name, "version": version, "description": f"about {name}", **more}
    files = {"Chart.yaml": yaml.safe_dump(said), "values.yaml": values, "README.md": "# hello\n"}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(out.getvalue(), mtime=0)
