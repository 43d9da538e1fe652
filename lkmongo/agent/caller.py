"""What a call knows of its person: loaded once, answered from memory, written through to MongoDB.

The voice never waits for the database longer than a deadline: what is not there in time comes later, in the
background, and is known from then on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, cast

from lkmongo import deadlines
from lkmongo.agent.slots import Slots
from lkmongo.aio import Background, Task
from lkmongo.backoff import retry_pause
from lkmongo.confidential import tells
from lkmongo.embed.base import Embedder
from lkmongo.errors import DatabaseUnavailableError, InvalidTextError, LkmongoError, NotFoundError, SecretError
from lkmongo.model import (
    MAX_SLOTS,
    PROFILE_FIELDS,
    Memory,
    Profile,
    UserScope,
    check_memory,
    now,
    slot_name,
    slot_words,
)
from lkmongo.outbox.backlog import Backlog
from lkmongo.outbox.changes import Change, Changes, Saved, Saving
from lkmongo.outbox.lease import Lease
from lkmongo.store.open import Store
from lkmongo.store.people.tombstones import ErasedError
from lkmongo.store.people.users import check_profile_value

logger = logging.getLogger(__name__)


Status = Literal["loading", "known", "new", "guest"]


class Caller:
    """One person for the length of one call."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        scope: UserScope,
        lease: Lease,
        backlog: Backlog | None = None,
        *,
        guest: bool = False,
    ) -> None:
        """Nothing is loaded yet; `preload` does that. A guest is remembered for this call only."""
        self.scope = scope
        self.guest = guest
        self.profile = Profile(scope)
        self.loaded = guest
        self.forgot_something = False
        self.overheard: Callable[[], frozenset[str]] = frozenset
        """What they have told in this call that must not be remembered, under whatever label."""
        self._was_known = False
        self._store = store
        self._embedder = embedder
        self._lease = lease
        lease.when_held(self._note_presence)
        lease.when_lost(self._become_guest)
        self._slots = Slots(embedder)
        self._version = 0
        self._unsettled = False
        self._changes = Changes(store, backlog or Backlog())
        self._background = Background()
        self._saving = Saving(self._changes, self._save, store.breaker, self._background)
        self._loading: Task | None = None
        self._refreshing: Task | None = None
        self._leaving: Task | None = None
        self._awaited_until = 0.0
        self._settled = False
        self.load_error: LkmongoError | None = None

    @property
    def slots(self) -> dict[str, Memory]:
        """What is remembered, by its label, newest first; what is told of it is each one's `told`."""
        return self._slots.all

    @property
    def status(self) -> Status:
        """Whether the person is known, new, a guest, or still being looked up."""
        if self.guest:
            return "guest"
        if not self.loaded:
            return "loading"
        return "known" if self._was_known else "new"

    @property
    def saved(self) -> Saved:
        """Where what the caller asked to be remembered or forgotten is; of a guest's, nothing is to be stored."""
        return self._changes.saved

    # ------------------------------------------------------------------ loading

    async def preload(self, deadline: float = deadlines.PRELOAD) -> bool:
        """Load profile and slots side by side; what is late goes on in the background.

        Whoever comes later waits for the rest of the first one's time, so that no request to the model waits longer.

        Args:
            deadline: seconds from the first call of this.

        Returns:
            Whether it is loaded by then.
        """
        if self.guest:
            return True
        loading = self._loading or self._begin_loading(deadline)
        left = self._awaited_until - time.monotonic()
        if left > 0 and not loading.done():
            await asyncio.wait({loading}, timeout=left)
            if not loading.done():
                self._store.breaker.failed()  # no turn pays again for what the greeting has found out
        return self.loaded

    def _begin_loading(self, deadline: float) -> Task:
        self._loading = self._background.begin(self._load_until_there())
        self._awaited_until = time.monotonic() + deadline
        return self._loading

    async def _load_until_there(self) -> None:
        attempt = 0
        while not self.guest:
            try:
                try:
                    async with asyncio.timeout(deadlines.LOAD_ATTEMPT):
                        await self._load()
                except TimeoutError as error:
                    raise DatabaseUnavailableError(why="it does not answer") from error
                self._store.breaker.answered()
            except LkmongoError as error:
                if self.load_error is None:
                    logger.info("the caller's memory is not loaded yet: %s (%s)", error.message, error.why)
                self.load_error = error
                if self._settled:
                    return
                attempt += 1
                await asyncio.sleep(retry_pause(attempt))
            else:
                self.load_error = None
                return

    async def _load(self) -> None:
        slots, profile = await self._read()
        if self.guest:
            return
        profile = profile or Profile(self.scope)
        self._take(profile, slots)
        self._was_known = bool(slots or profile.name or profile.last_session or profile.memory_version)
        self.loaded = True
        self._background.begin(self._save_then_embed())

    async def _read(self) -> tuple[list[Memory], Profile | None]:
        while True:
            before = self._changes.times_saved
            # The slots first: there may be many, and the profile is here before the last of them.
            read = await asyncio.gather(self._store.memories.contents(self.scope), self._store.users.get(self.scope))
            if self._changes.times_saved == before:  # else it may be without what was stored meanwhile
                return read

    async def _save_then_embed(self) -> None:
        """Store what waits, and then vectors: one is taken only for a slot that is stored."""
        await self._save()
        await self._load_vectors()

    def _note_presence(self) -> None:
        """Store that the person is here; their profile is made when it is missing."""
        if self.guest:
            return

        async def seen() -> None:
            async with self._lease.writing():
                await self._store.users.seen(self.scope)

        self._background.begin(seen())

    def become(self, scope: UserScope, lease: Lease) -> None:
        """Take a guest for the person they have shown to be; what they asked to be remembered is kept for that person.

        Args:
            scope: the person.
            lease: the call's, for writing on this person's behalf.
        """
        told = {field: value for field in PROFILE_FIELDS if (value := getattr(self.profile, field))}
        self.scope = scope
        self.guest = self.loaded = False
        self.profile = Profile(scope)
        self._slots.drop_vectors()  # made for a guest, they are stored nowhere
        self._lease = lease
        for field, value in told.items():
            # What the person's profile says already is not written over: it may have been somebody else who said so.
            self._changes.add(Change("told", field, lease.call_began, value))
        for memory in reversed(self.slots.values()):
            self._changes.add(Change("remember", memory.memory_type, memory.updated_at or now(), memory.content))
        lease.when_held(self._note_presence)
        lease.when_lost(self._become_guest)
        self._background.begin(self._changes.keep())
        self._begin_loading(deadlines.PRELOAD)

    def _become_guest(self) -> None:
        """Go on without what is known of a person who was erased during the call."""
        self.guest = self.loaded = self.forgot_something = True
        self.load_error = None
        self.scope = UserScope.guest(self.scope.tenant_id)
        self._changes.drop()
        self._take(Profile(self.scope), [])
        self._slots.drop()

    def _take(self, profile: Profile, slots: list[Memory]) -> None:
        self._version = profile.memory_version
        known, self.profile = self._changes.over({memory.memory_type: memory for memory in slots}, profile)
        self._slots.take(known)

    async def refresh(self) -> None:
        """Load again when another process changed something; meant to run beside a turn."""
        if self.guest or not self.loaded:
            return
        await self._save()
        version = await self._store.users.memory_version(self.scope)
        if version == self._version and not self._unsettled:
            return
        # A version may be visible before the slot it stands for is: look once more at the next turn.
        self._unsettled = version != self._version
        scope = self.scope
        profile = await self._store.users.get(scope) or Profile(scope)
        slots = await self._store.memories.contents(scope)
        if not self.guest:
            self._take(profile, slots)
            await self._load_vectors()

    def refresh_in_background(self) -> None:
        """Start `refresh`, and forget about it; where the last one has not ended, or MongoDB is away, leave it."""
        if (self._refreshing is None or self._refreshing.done()) and not self._store.breaker.is_open:
            self._refreshing = self._background.begin(self._refresh_in_time())

    async def _refresh_in_time(self) -> None:
        with suppress(TimeoutError):  # the next turn tries again
            async with asyncio.timeout(deadlines.LOAD_ATTEMPT):
                await self.refresh()

    async def _load_vectors(self) -> None:
        """Fetch the slots' vectors, and make those that are missing."""
        stored = await self._store.memories.vectors(self.scope, self._embedder.model)
        if missing := self._slots.take_vectors(stored):
            await self._embed(missing)

    async def _embed(self, memories: list[Memory]) -> None:
        vectors = await self._embedder.embed([memory.embedded_text for memory in memories], kind="document")
        for memory, vector in zip(memories, vectors, strict=True):
            self._slots.take_vector(memory, vector)
            if not self.guest:
                await self._store.memories.set_vector(self.scope, memory, vector, self._embedder.model)

    # ------------------------------------------------------------------ what the tools do

    async def remember(self, label: str, content: str) -> Memory:
        """Write a slot and keep it, `saved` tells where; the vector follows in the background.

        Raises:
            InvalidTextError: the label or content cannot be one, or there are too many slots.
            SecretError: it must not be remembered.
        """
        name, text = check_memory(label, content)
        self._refuse_overheard(f"{slot_words(name)}: {text}")
        # Corrected in another spelling, a slot is replaced, and not kept beside.
        memory = Memory(self._slots.in_use(name), text, updated_at=now())
        if memory.memory_type not in self.slots and len(self.slots) >= MAX_SLOTS:
            raise InvalidTextError(f"{MAX_SLOTS} memories are the most that one person can have")
        self._slots.put(memory)
        await self._store_change(Change("remember", memory.memory_type, memory.updated_at or now(), memory.content))
        self.slots.setdefault(memory.memory_type, memory)  # gone when they were erased meanwhile
        self._background.begin(self._embed([memory]))
        return memory

    def _refuse_overheard(self, text: str) -> None:
        if tells(text, self.overheard()):
            raise SecretError

    def recall(self, label: str) -> Memory | None:
        """The slot of this label, or of one that is the same in another spelling, as it may be told.

        Raises:
            InvalidTextError: the label cannot be one.
        """
        memory = self._slots.recall(label)
        return memory.told if memory else None

    async def forget(self, label: str) -> str:
        """Delete a slot, and what the next call would know of this one and the last; `saved` tells whether it is gone.

        While nothing is loaded yet, the slot of just this label is deleted, if there is one.

        Returns:
            The slot's label.

        Raises:
            NotFoundError: there is no such slot.
        """
        memory = self.recall(label)
        name = memory.memory_type if memory else slot_name(label)
        if memory is None and self.loaded:
            raise NotFoundError(f"nothing is remembered as {slot_words(name)}")
        self.forgot_something = True
        self._slots.pop(name)
        self.profile = replace(self.profile, last_session=None)
        await self._store_change(Change("forget", name, now()))
        return name

    async def search(self, query: str, limit: int = 5, *, vector_of: str | None = None) -> list[Memory]:
        """The slots that fit the query best as they may be told, by words and by meaning, and without the database.

        Args:
            query: what is looked for.
            limit: how many slots at most.
            vector_of: nearly the same words, whose vector is at hand already; by default the query's own is made.
        """
        return [memory.told for memory in await self._slots.search(query, limit, vector_of=vector_of)]

    def relevant(self, text: str, limit: int = 20) -> list[Memory]:
        """The slots that share words with `text`, best first."""
        return self._slots.relevant(text, limit)

    async def set_profile(self, field: str, value: str) -> str:
        """Write one field of the profile, `saved` tells where, and return the value as it is stored.

        Raises:
            InvalidTextError: the field or the value cannot be one.
            SecretError: it must not be remembered.
        """
        text = check_profile_value(field, value)
        self._refuse_overheard(text)
        changed = cast("dict[str, Any]", {field: text})
        self.profile = replace(self.profile, **changed)
        await self._store_change(Change("profile", field, now(), text))
        self.profile = replace(self.profile, **changed)  # gone when they were erased meanwhile
        return text

    def leave_gist(self, gist: str) -> None:
        """Let the next call know what this one was about, unless something was forgotten in it; `settle` stores it."""
        if gist and not self.guest and not self.forgot_something:
            self._changes.add(Change("gist", "", now(), gist, since=self._lease.call_began))
            self._leaving = self._background.begin(self._keep_if_slow())

    async def _keep_if_slow(self) -> None:
        """Have the gist on disk where it is not stored in a moment: the record is completed first, which may take long."""
        await asyncio.sleep(deadlines.ACKNOWLEDGED)
        await self._changes.keep()

    # ------------------------------------------------------------------ storing

    async def _store_change(self, change: Change) -> None:
        """Have a change stored, and wait until it is, or until it is on disk because MongoDB is slow or away."""
        if not self.guest:
            await self._saving.store(change)

    async def _save(self) -> None:
        with suppress(ErasedError):
            self._version += await self._changes.save(self.scope, self._lease)

    async def settle(self, deadline: float) -> None:
        """Give what is not stored yet and other background work `deadline` seconds, then stop it and keep the rest."""
        if self._changes:
            self._background.begin(self._save())
        is_away = self._saving.away or self.load_error is not None
        endless = (self._loading, self._saving.retrying, self._leaving)
        await self._background.finish(deadlines.ACKNOWLEDGED if is_away else deadline, without=endless)
        self._settled = True
        self._saving.stop()
        await self._background.cancel()
        await self._changes.keep()
