"""A real OpenLDAP server for a test, with people and groups in it."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.clients import require_client
from tests.support.processes import stop, wait_until
from tests.support.single import free_address

BASE: Final = "dc=example,dc=org"
SEARCH_DN: Final = f"cn=reader,{BASE}"
SEARCH_PASSWORD: Final = "Reader-Secret-1"
PASSWORDS: Final = {"alice": "Wonder1and", "bob": "Builder123", "o(b)ob*": "Odd-Name-1"}
START_LIMIT_S: Final = 20

_CONFIGURATION: Final = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
pidfile {folder}/pid
database mdb
suffix "{base}"
rootdn "{search_dn}"
rootpw {search_password}
directory {folder}/db
maxsize 10485760
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to * by anonymous auth by users read by * none
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryServer:
    """A running directory."""

    url: str

    @property
    def settings(self) -> dict[str, object]:
        """Harbor's configuration items for it."""
        return {
            "auth_mode": "ldap_auth",
            "ldap_url": self.url,
            "ldap_base_dn": f"ou=people,{BASE}",
            "ldap_uid": "uid",
            "ldap_search_dn": SEARCH_DN,
            "ldap_search_password": SEARCH_PASSWORD,
            "ldap_group_base_dn": f"ou=groups,{BASE}",
            "ldap_group_attribute_name": "cn",
            "ldap_group_admin_dn": f"cn=leads,ou=groups,{BASE}",
        }


def _entries() -> str:
    people = [
        f"dn: uid={_escaped(name)},ou=people,{BASE}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name.title()}\nsn: x\n"
        f"mail: {name[0]}@example.org\nuserPassword: {password}\n"
        for name, password in PASSWORDS.items()
    ]
    groups = [
        f"dn: cn={name},ou=groups,{BASE}\nobjectClass: groupOfNames\ncn: {name}\n"
        + "".join(f"member: uid={member},ou=people,{BASE}\n" for member in members)
        for name, members in (("devs", ("alice", "bob")), ("leads", ("alice",)))
    ]
    units = [f"dn: ou={unit},{BASE}\nobjectClass: organizationalUnit\nou: {unit}\n" for unit in ("people", "groups")]
    root = f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: example\ndc: example\n"
    return "\n".join([root, *units, *people, *groups])


def _escaped(value: str) -> str:
    return value.replace("(", r"\28").replace(")", r"\29").replace("*", r"\2a")


def _answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def running_directory(folder: Path) -> Iterator[DirectoryServer]:
    """Start a directory on loopback, in a folder of its own, and stop it at the end."""
    slapd, add = require_client("slapd"), require_client("ldapadd")
    (folder / "db").mkdir(parents=True)
    configuration = folder / "slapd.conf"
    configuration.write_text(
        _CONFIGURATION.format(folder=folder, base=BASE, search_dn=SEARCH_DN, search_password=SEARCH_PASSWORD), encoding="utf-8"
    )
    address = free_address()
    url = f"ldap://{address}"
    host, _, port = address.rpartition(":")
    log = folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [slapd, "-d", "0", "-h", url, "-f", configuration], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
    try:
        wait_until(lambda: _answers(host, int(port)), process=process, log=log, limit_s=START_LIMIT_S)
        subprocess.run(
            [add, "-x", "-H", url, "-D", SEARCH_DN, "-w", SEARCH_PASSWORD],
            input=_entries().encode(),
            check=True,
            capture_output=True,
            timeout=START_LIMIT_S,
        )
        yield DirectoryServer(url=url)
    finally:
        stop(process, signal.SIGTERM, limit_s=START_LIMIT_S)
