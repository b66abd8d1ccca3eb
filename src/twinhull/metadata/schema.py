"""All tables together: `metadata` is whole once this is imported. A test fails when a table is not declared."""

from __future__ import annotations

from typing import Final

from sqlalchemy import MetaData

from twinhull.metadata.tables import accounts, columns, content, documents, garbage, log, own

metadata: Final[MetaData] = columns.metadata
# Imported for their tables.
SUBJECTS: Final = (log, accounts, content, documents, own, garbage)
