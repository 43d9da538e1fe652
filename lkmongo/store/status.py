"""What there is to know of a database without waiting and without writing: server, indexes, documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pymongo.asynchronous.database import AsyncDatabase

from lkmongo.errors import NotReadyError, NotSupportedError
from lkmongo.store import provision
from lkmongo.store.canary import look
from lkmongo.store.capabilities import Capabilities, probe
from lkmongo.store.coverage import Coverage, coverage
from lkmongo.store.pace import Pace
from lkmongo.store.readiness import IndexState, states
from lkmongo.store.schema import Index
from lkmongo.store.search_schema import search_indexes

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """The state of a database.

    Attributes:
        capabilities: what the server can do.
        indexes: the ordinary indexes, with what each would need.
        search: the search indexes; empty on a server without search, and when they could not be listed.
        trouble: why the search indexes could not be listed, or empty.
        documents: what a search by vectors can find.
    """

    capabilities: Capabilities
    indexes: Sequence[provision.Change[Index]]
    search: Sequence[IndexState]
    trouble: str
    documents: Sequence[Coverage]


async def database_status(db: AsyncDatabase[Document], embedder: Embedder) -> DatabaseStatus:
    """Find out how things stand. An index that is ready is also asked for a document that is there.

    Args:
        db: looked at only.
        embedder: whose vectors the indexes should be made for; it embeds nothing.

    Raises:
        DatabaseError, AuthenticationError: MongoDB could not be asked.
    """
    capabilities = await probe(db)
    found: list[IndexState] = []
    trouble = ""
    if capabilities.search:
        try:
            found = await states(db, search_indexes(embedder.dimensions, embedder.similarity), Pace(0))
        except (NotReadyError, NotSupportedError) as error:
            trouble = error.why or error.message
    found = [replace(each, canary=await look(db, each.index, embedder)) if each.ready else each for each in found]
    return DatabaseStatus(capabilities, await provision.plan(db), found, trouble, await coverage(db, embedder.model))
