"""Scanners: their registrations, which of them is the cluster's default, and which a project has chosen."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from twinhull.catalog.accounts import Written
from twinhull.catalog.documents import Documents, change_document, create_document, delete_document, rename_document
from twinhull.catalog.foreign import address_of
from twinhull.catalog.projects import SCANNER_KEY, set_shown
from twinhull.kit.errors import Conflict, Invalid, NotFound
from twinhull.metadata.accounts import Project, Snapshot, find_setting
from twinhull.metadata.documents import Document, list_documents
from twinhull.metadata.filtering import NUL
from twinhull.metadata.transaction import Transaction
from twinhull.records.kinds import SCANNER, SETTING
from twinhull.records.merge import Value

AUTH_KINDS: Final = ("", "Basic", "Bearer", "X-ScannerAdapter-API-Key")
NAME_LENGTH_MAX: Final = 128
# A setting of its own, so that two nodes that choose at the same time choose one.
DEFAULT_SETTING: Final = "default_scanner"
_TEXT_LENGTH_MAX: Final = 4096
_ID_BYTES: Final = 16

RandomBytes = Callable[[int], bytes]


class Registration(msgspec.Struct):
    """What is said of a scanner when it is registered."""

    name: str = ""
    description: str = ""
    url: str = ""
    auth: str = ""
    access_credential: str = ""
    skip_cert_verify: bool = msgspec.field(default=False, name="skip_certVerify")
    use_internal_addr: bool = False
    disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanner:
    """A registered scanner; its credential is sealed."""

    document: Document
    uuid: str
    is_default: bool

    @property
    def fields(self) -> Mapping[str, Any]:
        """What was registered of it."""
        return self.document.fields


def require_registration(wanted: Registration) -> None:
    """Put the address into the form in which it is kept; raises Invalid for what can't be a scanner."""
    if not wanted.name:
        raise Invalid("missing registration name")
    if len(wanted.name) > NAME_LENGTH_MAX or NUL in wanted.name:
        raise Invalid(f"the name of a scanner has at most {NAME_LENGTH_MAX} characters")
    wanted.url = address_of(wanted.url)
    if wanted.auth not in AUTH_KINDS:
        raise Invalid(f"unsupported auth type: {wanted.auth[:64]}")
    texts = (wanted.description, wanted.access_credential)
    if any(len(text) > _TEXT_LENGTH_MAX or NUL in text for text in texts):
        raise Invalid(f"a description or credential has at most {_TEXT_LENGTH_MAX} characters")


def all_scanners(connection: Snapshot) -> Sequence[Scanner]:
    """Return the registered scanners, by name."""
    default = find_setting(connection, DEFAULT_SETTING)
    found, _ = list_documents(connection, SCANNER, project="")
    return [_scanner(one, default) for one in found]


def find_scanner(connection: Snapshot, identifier: str) -> Scanner | None:
    """Return the scanner with that UUID."""
    return next((one for one in all_scanners(connection) if one.uuid == identifier), None)


def scanner_of(connection: Snapshot, project: Project) -> Scanner | None:
    """Return the scanner that a project has chosen, or the default one; None where there is neither."""
    scanners = all_scanners(connection)
    chosen = project.metadata.get(SCANNER_KEY)
    by_choice = next((one for one in scanners if one.uuid == chosen), None)
    return by_choice or next((one for one in scanners if one.is_default), None)


def _scanner(document: Document, default: object) -> Scanner:
    identifier = str(document.fields.get("uuid", ""))
    return Scanner(document=document, uuid=identifier, is_default=identifier == default)


class Scanners:
    """Registers scanners, and chooses among them."""

    def __init__(self, documents: Documents, *, random_bytes: RandomBytes = os.urandom) -> None:
        """Take what writes documents."""
        self._documents = documents
        self._random_bytes = random_bytes

    async def create(self, wanted: Registration, credential: str | None) -> tuple[str, Written]:
        """Register a scanner, with its sealed credential, and return its UUID; the first one becomes the default."""
        identifier = str(uuid.UUID(bytes=self._random_bytes(_ID_BYTES), version=4))

        def create(transaction: Transaction) -> int:
            fields = {**_fields(wanted), "access_credential": credential, "uuid": identifier}
            _require_free_address(transaction, wanted.url)
            try:
                number = create_document(transaction, SCANNER, fields, name=wanted.name)
            except Conflict:
                raise Conflict(f"scanner {wanted.name} already exists") from None
            if not any(one.is_default for one in all_scanners(transaction.connection)):
                _set_default(transaction, identifier)
            return number

        return identifier, await self._documents.write(create)

    async def change(self, identifier: str, wanted: Registration, credential: str | None) -> Written:
        """Change a registration; without a credential the one that is kept stays."""

        def change(transaction: Transaction) -> int:
            held = _existing(transaction, identifier)
            _require_free_address(transaction, wanted.url, besides=identifier)
            rename_document(transaction, SCANNER, held.document.id, wanted.name)
            kept = held.fields.get("access_credential") if wanted.auth else None
            fields = {**_fields(wanted), "access_credential": credential or kept}
            return change_document(transaction, SCANNER, held.document.id, fields)

        return await self._documents.write(change)

    async def delete(self, identifier: str) -> Written:
        """Delete a registration; raises NotFound."""
        return await self._documents.write(
            lambda transaction: delete_document(transaction, SCANNER, _existing(transaction, identifier).document.id)
        )

    async def make_default(self, identifier: str) -> Written:
        """Make a scanner the one of all projects that have chosen none; raises NotFound."""

        def choose(transaction: Transaction) -> int:
            held = _existing(transaction, identifier)
            _set_default(transaction, identifier)
            return held.document.id

        return await self._documents.write(choose)

    async def choose(self, project: str, identifier: str) -> Written:
        """Let a project have a scanner of its own; one that is not there yet counts from when it is, as in Harbor."""

        def choose(transaction: Transaction) -> int:
            set_shown(transaction, project, SCANNER_KEY, identifier)
            return 0

        return await self._documents.write(choose)


def _existing(transaction: Transaction, identifier: str) -> Scanner:
    found = find_scanner(transaction.connection, identifier)
    if found is None:
        raise NotFound(f"scanner: {identifier[:200]}")
    return found


def _require_free_address(transaction: Transaction, url: str, *, besides: str = "") -> None:
    if any(one.fields.get("url") == url and one.uuid != besides for one in all_scanners(transaction.connection)):
        raise Conflict(f"a scanner at {url} already exists")


def _set_default(transaction: Transaction, identifier: str) -> None:
    if transaction.values(SETTING, DEFAULT_SETTING) is None:
        transaction.create(SETTING, DEFAULT_SETTING, {"value": identifier})
    else:
        transaction.put(SETTING, DEFAULT_SETTING, {"value": identifier})


def _fields(wanted: Registration) -> dict[str, Value]:
    return {
        "description": wanted.description,
        "url": wanted.url,
        "auth": wanted.auth,
        "skip_cert_verify": wanted.skip_cert_verify,
        "use_internal_addr": wanted.use_internal_addr,
        "disabled": wanted.disabled,
    }
