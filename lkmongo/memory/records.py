"""What is stored, for programs without LiveKit: support, a web backend, a script. Everything takes ids, as text.

All of these raise, besides what each says: UsageError if the memory is not open, InvalidIdError for an id that is not
text of 1 to 128 printable characters, and DatabaseError if MongoDB cannot be reached or answers with an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkmongo.model import (
    DEFAULT_TENANT,
    Fact,
    Passage,
    Profile,
    SessionRecord,
    TenantScope,
    Turn,
    UserScope,
    clean_query,
    now,
)
from lkmongo.store.open import Store

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder
    from lkmongo.search.past_calls import FoundCalls
    from lkmongo.search.strategy import SearchResult, SearchStrategy
    from lkmongo.settings import Settings
    from lkmongo.store.knowledge.ingest import IngestResult, Library
    from lkmongo.store.knowledge.knowledge import Source
    from lkmongo.store.knowledge.reader import Reader
    from lkmongo.store.people.corrections import Correction, Version
    from lkmongo.store.people.erase import Erasure
    from lkmongo.store.people.forget import Forgotten
    from lkmongo.store.people.history import Undone
    from lkmongo.store.people.import_memories import Imported
    from lkmongo.store.people.merge import Merged
    from lkmongo.store.sessions.search import Found

Opened = Callable[[], Awaitable[Store]]
"""Gives the open store."""
Strategy = Callable[[], Awaitable["SearchStrategy"]]
"""Gives the search over the open store."""


@dataclass(frozen=True, slots=True)
class Person:
    """One line of the list of people; times are in UTC."""

    user_id: str
    tenant_id: str
    name: str | None
    email: str | None
    created_at: datetime | None
    last_seen_at: datetime | None


_UNKNOWN: dict[str, Any] = dict.fromkeys(Person.__slots__)


@dataclass(frozen=True, slots=True)
class KnownPerson:
    """What is stored about one person.

    Attributes:
        profile: name, e-mail address, preferred language, time zone, the last session.
        counts: documents by collection.
        sessions_in_progress: the ids of sessions that go on.
    """

    profile: Profile
    counts: Mapping[str, int]
    sessions_in_progress: Sequence[str]


class People:
    """What is remembered of whom: `Memory.people`."""

    def __init__(self, opened: Opened, strategy: Strategy, settings: Settings) -> None:
        self._opened = opened
        self._strategy = strategy
        self._settings = settings

    async def list(
        self, *, tenant_id: str = DEFAULT_TENANT, after: str | None = None, limit: int = 50
    ) -> Sequence[Person]:
        """The people of a tenant who have a profile, ordered by id; `after` is the last id of the page before."""
        store = await self._opened()
        page = await store.users.page(TenantScope(tenant_id), after=after, limit=limit)
        return [Person(**(_UNKNOWN | each)) for each in page]

    async def show(self, user_id: str, *, tenant_id: str = DEFAULT_TENANT) -> KnownPerson:
        """A person's profile, and how much is stored about them.

        Raises:
            NotFoundError: nothing is stored about them.
        """
        from lkmongo.store.people.person import count_known

        store, scope = await self._opened(), UserScope(tenant_id=tenant_id, user_id=user_id)
        counts = await count_known(store.db, scope)
        profile = await store.users.get(scope) or Profile(scope)
        return KnownPerson(profile, counts, await store.sessions.live(scope))

    async def facts(self, user_id: str, *, tenant_id: str = DEFAULT_TENANT) -> Sequence[Fact]:
        """What is remembered of a person, newest first; empty for somebody unknown."""
        store = await self._opened()
        return await store.memories.slots(UserScope(tenant_id=tenant_id, user_id=user_id))

    async def history(
        self, user_id: str, label: str | None = None, *, tenant_id: str = DEFAULT_TENANT
    ) -> Sequence[Version]:
        """Every value of a person's facts, or of one, that was ever true; by label, the newest first.

        One without `valid_to` is true now.

        Raises:
            NotFoundError: nothing is stored about them, or they never had such a fact.
            InvalidTextError: not a valid label.
        """
        from lkmongo.store.people.corrections import history_known

        return await history_known(await self._opened(), UserScope(tenant_id=tenant_id, user_id=user_id), label)

    async def set(
        self,
        user_id: str,
        label: str,
        content: str,
        *,
        valid_from: datetime | None = None,
        tenant_id: str = DEFAULT_TENANT,
        dry_run: bool = False,
    ) -> Correction:
        """Set a fact by hand; another value becomes a former one. Sessions in progress know it one turn later.

        Args:
            user_id: the person.
            label: of the fact.
            content: its value.
            valid_from: since when it is true, with a time zone; by default since now, or since when the text says.
            tenant_id: their tenant.
            dry_run: only say what would change.

        Raises:
            NotFoundError: nothing is stored about them.
            InvalidTextError: the label or the content is invalid, or they have too many facts.
            SecretError: it is a secret, such as a password, which must not be remembered.
        """
        from lkmongo.store.people.corrections import set_known

        store, scope = await self._opened(), UserScope(tenant_id=tenant_id, user_id=user_id)
        return await set_known(store, scope, label, content, valid_from=valid_from, dry_run=dry_run)

    async def undo(self, user_id: str, label: str, *, tenant_id: str = DEFAULT_TENANT, dry_run: bool = False) -> Undone:
        """Give a fact its last former value back, also after `set`, or when it was no longer true.

        What it says instead is dropped, and what was forgotten cannot come back.

        Raises:
            NotFoundError: nothing is stored about them, or the fact has no former value.
            InvalidTextError: not a valid label.
        """
        from lkmongo.store.people.corrections import undo_known

        store, scope = await self._opened(), UserScope(tenant_id=tenant_id, user_id=user_id)
        return await undo_known(store, scope, label, dry_run=dry_run)

    async def import_facts(
        self,
        path: str | Path,
        *,
        user_id: str | None = None,
        tenant_id: str = DEFAULT_TENANT,
        dry_run: bool = False,
    ) -> Imported:
        """Import facts from a file, once each: our own export, JSON lines, or an export of mem0 or Zep.

        Args:
            path: the file; its content tells the format.
            user_id: whose facts they are; by default whose the file says.
            tenant_id: their tenant.
            dry_run: only say what would be stored.

        Returns:
            How many were stored; `problems` says which lines were refused, and why.

        Raises:
            UsageError: the file cannot be read, or holds no facts.
        """
        from lkmongo.store.indexes import database_indexes
        from lkmongo.store.people.import_formats import read
        from lkmongo.store.people.import_memories import import_facts

        store = await self._opened()
        _, entries = read(Path(path))
        if not dry_run:
            await database_indexes.apply(store.db)
        return await import_facts(store, entries, tenant_id=tenant_id, user_id=user_id, dry_run=dry_run)

    async def search(
        self, user_id: str, query: str, *, tenant_id: str = DEFAULT_TENANT, limit: int = 5
    ) -> SearchResult[Fact]:
        """The facts that match best, by meaning and by words.

        Raises:
            UsageError: the query is empty, or longer than 4,000 characters.
        """
        scope = UserScope(tenant_id=tenant_id, user_id=user_id)
        return await (await self._strategy()).memories(scope, clean_query(query), limit)

    async def export(self, user_id: str, *, tenant_id: str = DEFAULT_TENANT) -> AsyncIterator[str]:
        """Everything that is stored about a person, as the pieces of one JSON object that they can read.

        Raises:
            NotFoundError: nothing is stored about them.
        """
        from lkmongo.store.people.person import count_known, export

        store, scope = await self._opened(), UserScope(tenant_id=tenant_id, user_id=user_id)
        await count_known(store.db, scope)
        async for piece in export(store.db, scope):
            yield piece

    async def forget(
        self,
        user_id: str,
        labels: Sequence[str] | None = None,
        *,
        profile: bool = False,
        tenant_id: str = DEFAULT_TENANT,
        dry_run: bool = False,
    ) -> Forgotten:
        """Forget facts, and in any case what the last session was about; transcripts stay.

        Args:
            user_id: the person.
            labels: of which facts; by default all.
            profile: forget the profile as well.
            tenant_id: their tenant.
            dry_run: only say what there is.

        Raises:
            NotFoundError: nothing is stored about them, or there is no such fact.
            InvalidTextError: not a valid label.
        """
        from lkmongo.store.people.forget import forget_known

        store, scope = await self._opened(), UserScope(tenant_id=tenant_id, user_id=user_id)
        return await forget_known(store, scope, labels, profile=profile, dry_run=dry_run)

    async def merge(
        self, guest_id: str, login_id: str, *, tenant_id: str = DEFAULT_TENANT, dry_run: bool = False
    ) -> Merged:
        """Make everything of one person another's: of a guest who turned out to be somebody. Repeating it is no error.

        Raises:
            NotFoundError: nothing is stored about either.
            NotReadyError: one of them is in a session.
        """
        from lkmongo.store.people.merge import merge_known

        guest, login = (UserScope(tenant_id=tenant_id, user_id=each) for each in (guest_id, login_id))
        return await merge_known((await self._opened()).db, guest, login, dry_run=dry_run)

    async def erase(
        self,
        user_id: str,
        *,
        by: str,
        reason: str | None = None,
        orders: bool = False,
        tenant_id: str = DEFAULT_TENANT,
        dry_run: bool = False,
    ) -> Erasure:
        """Erase a person for good: profile, facts, sessions and what was said, also on this machine's disk.

        A session in progress is waited for.

        Args:
            user_id: the person.
            by: who does it, for the receipt; not the person's id.
            reason: why, for the receipt: a ticket, no name.
            orders: delete their orders, too.
            tenant_id: their tenant.
            dry_run: only count.

        Raises:
            NotFoundError: nothing is stored about them, and nobody was erased under that id.
            NotReadyError: a session is still in progress after ten seconds; call it again.
            InvalidTextError: `by` or `reason` cannot be on a receipt.
        """
        from lkmongo.outbox.erasing import Elsewhere
        from lkmongo.store.people.erase import erase_known

        store, scope = await self._opened(), UserScope(tenant_id=tenant_id, user_id=user_id)
        elsewhere = Elsewhere(self._settings, store.db, scope)
        return await erase_known(
            store.db, scope, by=by, reason=reason, orders=orders, dry_run=dry_run, elsewhere=elsewhere
        )


class Sessions:
    """The records of sessions: `Memory.sessions`. Each has the `summary` of what it was about, once it has ended."""

    def __init__(self, opened: Opened, embedder: Embedder) -> None:
        self._opened = opened
        self._embedder = embedder

    async def list(
        self,
        *,
        user_id: str | None = None,
        tenant_id: str = DEFAULT_TENANT,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
    ) -> Sequence[SessionRecord]:
        """The sessions of a person, or of the whole tenant, newest first, with totals of their turns.

        Args:
            user_id: whose; by default everybody's.
            tenant_id: the tenant.
            since: started at this time or later; with a time zone.
            until: started before this time.
            limit: how many at most.
        """
        from lkmongo.store.sessions.listing import SessionFilter, newest

        wanted = SessionFilter(tenant_id, user_id, since, until)
        return await newest((await self._opened()).db, wanted, limit=limit)

    async def show(
        self, session_id: str, *, user_id: str | None = None, tenant_id: str = DEFAULT_TENANT
    ) -> SessionRecord:
        """One session.

        Raises:
            NotFoundError: there is none of that id.
            UsageError: there are several, of different people: name the user.
        """
        from lkmongo.store.sessions.listing import SessionFilter, find

        return await find((await self._opened()).db, SessionFilter(tenant_id, user_id), session_id)

    async def turns(
        self, session_id: str, *, user_id: str | None = None, tenant_id: str = DEFAULT_TENANT
    ) -> Sequence[Turn]:
        """What was said and done in a session, in order; raises as `show` does."""
        record = await self.show(session_id, user_id=user_id, tenant_id=tenant_id)
        return await (await self._opened()).sessions.turns(record.scope, session_id)

    async def search(
        self,
        text: str,
        *,
        user_id: str | None = None,
        tenant_id: str = DEFAULT_TENANT,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
    ) -> Sequence[Found]:
        """Turns in which a text occurs, in any case, newest first; reads all that was said in that time.

        Raises:
            UsageError: the text is empty, or longer than 200 characters.
        """
        from lkmongo.store.sessions.listing import SessionFilter
        from lkmongo.store.sessions.search import search

        wanted = SessionFilter(tenant_id, user_id, since, until)
        return await search((await self._opened()).db, wanted, text, limit=limit)

    async def search_summaries(
        self,
        user_id: str,
        query: str = "",
        *,
        tenant_id: str = DEFAULT_TENANT,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 5,
    ) -> FoundCalls:
        """A person's sessions by what they were about, by meaning and by words.

        Args:
            user_id: whose.
            query: what to look for; "in October" in it means that month. Empty for the newest.
            tenant_id: their tenant.
            since: began at this time or later; with a time zone.
            until: began before this time.
            limit: how many at most.

        Returns:
            The `calls`, the best first, each with its `summary`; `degraded` says what the search had to do without.
        """
        from lkmongo.dates import zone_of
        from lkmongo.search.past_calls import past_calls

        store, scope = await self._opened(), UserScope(tenant_id=tenant_id, user_id=user_id)
        profile = await store.users.get(scope)
        today = now().astimezone(zone_of(profile.timezone if profile else None))
        return await past_calls(
            store.summaries, scope, query, self._embedder, today=today, since=since, until=until, limit=limit
        )


class Knowledge:
    """What an agent may quote: `Memory.knowledge`."""

    def __init__(self, opened: Opened, strategy: Strategy, embedder: Embedder) -> None:
        self._opened = opened
        self._strategy = strategy
        self._embedder = embedder
        self._reader: Reader | None = None

    async def add(
        self, *paths: str | Path, tenant_id: str = DEFAULT_TENANT, follow_links: bool = False
    ) -> IngestResult:
        """Add documents (.md, .txt, .html, .pdf) and folders of them, or update those that were added before.

        Args:
            paths: files and folders.
            tenant_id: whose knowledge it is.
            follow_links: whether to follow symbolic links, to files and folders elsewhere as well.

        Returns:
            The passages of each document; `failure` says why some have no vector yet, and are found by words alone.
            `problems` are files of the folders that could not be read.

        Raises:
            UsageError: a path cannot be read, or another program wrote a document of that name.
        """
        from lkmongo.store.knowledge.ingest import find_documents, read_documents

        found = find_documents([Path(path) for path in paths], follow_links=follow_links)
        return await self._add(await read_documents(found, self._documents()), tenant_id)

    async def add_text(self, source: str, text: str | bytes, *, tenant_id: str = DEFAULT_TENANT) -> IngestResult:
        """Add one document by its content; `source` is its name, such as `returns.md`, and says how to read it."""
        from lkmongo.store.knowledge.ingest import Library, read_stream

        data = text.encode() if isinstance(text, str) else text
        document = await asyncio.to_thread(read_stream, BytesIO(data), source, self._documents())
        return await self._add(Library([document]), tenant_id)

    def _documents(self) -> Reader:
        from lkmongo.store.knowledge.reader import Reader

        self._reader = self._reader or Reader()
        return self._reader

    def close(self) -> None:
        """End the process that reads documents, if there is one; internal."""
        if self._reader:
            self._reader.close()

    async def _add(self, library: Library, tenant_id: str) -> IngestResult:
        from lkmongo.store.indexes import database_indexes
        from lkmongo.store.knowledge.ingest import add_documents

        store = await self._opened()
        await database_indexes.apply(store.db)
        return await add_documents(store.db, TenantScope(tenant_id), library, self._embedder)

    async def list(self, *, tenant_id: str = DEFAULT_TENANT) -> Sequence[Source]:
        """The documents of a tenant by name, with the numbers of their passages and of those that have a vector."""
        from lkmongo.store.knowledge.knowledge import Knowledge as Repository

        return await Repository((await self._opened()).db).sources(TenantScope(tenant_id), self._embedder.model)

    async def search(self, query: str, *, tenant_id: str = DEFAULT_TENANT, limit: int = 5) -> SearchResult[Passage]:
        """The passages that match best, by meaning and by words.

        Raises:
            UsageError: the query is empty, or longer than 4,000 characters.
        """
        return await (await self._strategy()).knowledge(TenantScope(tenant_id), clean_query(query), limit)

    async def remove(self, *sources: str, tenant_id: str = DEFAULT_TENANT) -> int:
        """Remove documents, whoever wrote them; returns the number of passages.

        Raises:
            NotFoundError: there is no such document; nothing is removed.
        """
        from lkmongo.store.knowledge.knowledge import Knowledge as Repository

        repository, tenant = Repository((await self._opened()).db), TenantScope(tenant_id)
        await repository.require(tenant, sources)
        return await repository.remove(tenant, sources)
