"""What a call knows of its person: loaded once, answered from memory, written through to MongoDB.

The voice never waits for the database longer than a deadline: what is not there in time comes later, in the
background, and is known from then on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Literal, cast

from lkmongo.agent.lease import Lease
from lkmongo.embed.base import Embedder
from lkmongo.errors import InvalidTextError, LkmongoError, NotFoundError
from lkmongo.model import MAX_SLOTS, Identity, Memory, Profile, check_content, now, slot_name, slot_words
from lkmongo.search.exact import ExactIndex
from lkmongo.search.strategy import memory_index
from lkmongo.store.opening import Store
from lkmongo.store.tombstones import ErasedError
from lkmongo.store.users import check_profile_value

logger = logging.getLogger(__name__)

PRELOAD_DEADLINE = 1.0
"""Seconds a greeting waits for what is known of the caller."""
EMBED_DEADLINE = 0.4
"""Seconds a search in a turn waits for the query's vector; after that it goes by words alone."""
_RETRY_EVERY = (0.5, 1, 2, 4, 8, 15)
_NEAR_LABEL = 82
"""Similarity, of 100, from which another label is taken to be the same in another spelling."""

Status = Literal["loading", "known", "new", "guest"]


class Caller:
    """One person for the length of one call."""

    def __init__(
        self, store: Store, embedder: Embedder, identity: Identity, lease: Lease, *, guest: bool = False
    ) -> None:
        """Nothing is loaded yet; `preload` does that. A guest is remembered for this call only."""
        self.identity = identity
        self.guest = guest
        self.profile = Profile(identity)
        self.slots: dict[str, Memory] = {}
        self.loaded = guest
        self.forgot_something = False
        self._was_known = False
        self._store = store
        self._embedder = embedder
        self._lease = lease
        lease.when_held(self._note_presence)
        lease.when_lost(self._become_guest)
        self._vectors: dict[str, Any] = {}
        self._version = 0
        self._unsettled = False
        self._unsaved: dict[str, Memory] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._index: ExactIndex[str] | None = None
        self._loading: asyncio.Task[None] | None = None
        self._settled = False
        self.load_error: LkmongoError | None = None

    @property
    def status(self) -> Status:
        """Whether the person is known, new, a guest, or still being looked up."""
        if self.guest:
            return "guest"
        if not self.loaded:
            return "loading"
        return "known" if self._was_known else "new"

    # ------------------------------------------------------------------ loading

    async def preload(self, deadline: float = PRELOAD_DEADLINE) -> bool:
        """Load profile and slots side by side; what is late goes on in the background.

        Returns:
            Whether it is loaded within `deadline` seconds.
        """
        if self.guest:
            return True
        self._loading = self._background(self._load_until_there())
        await asyncio.wait({self._loading}, timeout=deadline)
        return self.loaded

    async def _load_until_there(self) -> None:
        attempt = 0
        while not self.guest:
            try:
                await self._load()
            except LkmongoError as error:
                if self.load_error is None:
                    logger.info("the caller's memory is not loaded yet: %s (%s)", error.message, error.why)
                self.load_error = error
                if self._settled:
                    return
                await asyncio.sleep(_RETRY_EVERY[min(attempt, len(_RETRY_EVERY) - 1)])
                attempt += 1
            else:
                self.load_error = None
                return

    async def _load(self) -> None:
        said_before = dict(self.slots)  # it could not be stored yet, and is newer than what is there
        profile, slots = await asyncio.gather(
            self._store.users.get(self.identity), self._store.memories.slots(self.identity)
        )
        if self.guest:
            return
        profile = profile or Profile(self.identity)
        self._take(profile, slots)
        self._unsaved |= said_before
        await self._save_unsaved()
        self._was_known = bool(slots or profile.name or profile.last_session or profile.memory_version)
        self.loaded = True
        self._background(self._load_vectors())

    def _note_presence(self) -> None:
        """Store that the person is here; their profile is made when it is missing."""
        if self.guest:
            return

        async def seen() -> None:
            async with self._lease.writing():
                await self._store.users.seen(self.identity)

        self._background(seen())

    def _become_guest(self) -> None:
        """Go on without what is known of a person who was erased during the call."""
        self.guest = self.loaded = self.forgot_something = True
        self.load_error = None
        self.identity = Identity.guest(self.identity.tenant_id)
        self._take(Profile(self.identity), [])
        self._vectors = {}
        self._unsaved = {}

    def _take(self, profile: Profile, slots: list[Memory]) -> None:
        self.profile = profile
        self._version = profile.memory_version
        self.slots = {memory.memory_type: memory for memory in slots}
        self._index = None

    async def refresh(self) -> None:
        """Load again when another process changed something; meant to run beside a turn."""
        if self.guest or not self.loaded:
            return
        await self._save_unsaved()
        version = await self._store.users.memory_version(self.identity)
        if version == self._version and not self._unsettled:
            return
        # A version may be visible before the slot it stands for is: look once more at the next turn.
        self._unsettled = version != self._version
        identity = self.identity
        profile = await self._store.users.get(identity) or Profile(identity)
        slots = await self._store.memories.slots(identity)
        if not self.guest:
            self._take(profile, slots)
            await self._load_vectors()

    def refresh_in_background(self) -> None:
        """Start `refresh`, and forget about it."""
        self._background(self.refresh())

    async def _load_vectors(self) -> None:
        """Fetch the slots' vectors, and make those that are missing."""
        stored = await self._store.memories.vectors(self.identity, self._embedder.model)
        from lkmongo.embed.vectors import from_bson

        for name, (updated_at, value) in stored.items():
            memory = self.slots.get(name)
            if memory and memory.updated_at == updated_at:
                self._vectors[name] = from_bson(value, self._embedder.dimensions)
        self._vectors = {name: vector for name, vector in self._vectors.items() if name in self.slots}
        self._index = None
        if missing := [memory for name, memory in self.slots.items() if self._vectors.get(name) is None]:
            await self._embed(missing)

    async def _embed(self, memories: list[Memory]) -> None:
        vectors = await self._embedder.embed([memory.embedded_text for memory in memories], kind="document")
        for memory, vector in zip(memories, vectors, strict=True):
            if self.slots.get(memory.memory_type) == memory:
                self._vectors[memory.memory_type] = vector
                self._index = None
            if not self.guest:
                await self._store.memories.set_vector(self.identity, memory, vector, self._embedder.model)

    # ------------------------------------------------------------------ what the tools do

    async def remember(self, label: str, content: str) -> Memory:
        """Write a slot and keep it; the vector follows in the background.

        Raises:
            InvalidTextError: the label or content cannot be one, or there are too many slots.
            DatabaseError: it could not be stored; it is known for the rest of this call all the same.
        """
        memory = Memory(slot_name(label), check_content(content), updated_at=now())
        if memory.memory_type not in self.slots and len(self.slots) >= MAX_SLOTS:
            raise InvalidTextError(f"{MAX_SLOTS} memories are the most that one person can have")
        self._put(memory)
        if not self.guest:
            self._unsaved[memory.memory_type] = memory
            await self._save_unsaved()
            memory = self.slots.setdefault(memory.memory_type, memory)  # gone when they were erased meanwhile
        self._background(self._embed([memory]))
        return memory

    async def _save_unsaved(self) -> None:
        for name, memory in list(self._unsaved.items()):
            try:
                async with self._lease.writing():
                    stored = await self._store.memories.remember(self.identity, name, memory.content)
            except ErasedError:
                return
            if self.guest:
                return
            self._put(stored)
            self._version += 1
            if self._unsaved.get(name) == memory:
                del self._unsaved[name]

    def recall(self, label: str) -> Memory | None:
        """The slot of this label, or of one that is the same in another spelling.

        Raises:
            InvalidTextError: the label cannot be one.
        """
        from rapidfuzz import fuzz, process

        name = slot_name(label)
        if name in self.slots:
            return self.slots[name]
        near = process.extractOne(name, list(self.slots), scorer=fuzz.ratio, score_cutoff=_NEAR_LABEL)
        return self.slots[near[0]] if near else None

    async def forget(self, label: str) -> Memory:
        """Delete a slot, and what the next call would know of this one and the last.

        Raises:
            NotFoundError: there is no such slot.
            DatabaseError: it could not be deleted; it is still there.
        """
        memory = self.recall(label)
        if memory is None:
            raise NotFoundError(f"nothing is remembered as {slot_words(slot_name(label))}")
        if not self.guest:
            await self._store.memories.forget(self.identity, [memory.memory_type])
            self._version += 1
        self.forgot_something = True
        self._unsaved.pop(memory.memory_type, None)
        self.slots.pop(memory.memory_type, None)
        self._vectors.pop(memory.memory_type, None)
        self.profile = replace(self.profile, last_session=None)
        self._index = None
        return memory

    async def search(self, query: str, limit: int = 5) -> list[Memory]:
        """The slots that fit the query best, by words and by meaning; those loaded, so without the database."""
        if not self.slots:
            return []
        vector = None
        if self._vectors:
            try:
                async with asyncio.timeout(EMBED_DEADLINE):
                    vector = (await self._embedder.embed([query], kind="query", deadline=EMBED_DEADLINE))[0]
            except (LkmongoError, TimeoutError) as error:
                logger.info("searching memories by words alone: %s", error)
        hits = self._searchable().search(
            query, vector, limit, weights=self._embedder.weights, floor=self._embedder.floor
        )
        return [self.slots[hit.key] for hit in hits if hit.key in self.slots]

    def relevant(self, text: str, limit: int = 20) -> list[Memory]:
        """The slots that share words with `text`, best first."""
        if not self.slots or not text:
            return []
        hits = self._searchable().search(text, None, limit, weights=self._embedder.weights, floor=self._embedder.floor)
        return [self.slots[hit.key] for hit in hits]

    async def set_profile(self, field: str, value: str) -> str:
        """Write one field of the profile and return the value as it is stored.

        Raises:
            InvalidTextError: the field or the value cannot be one.
            DatabaseError: it could not be stored; it is known for the rest of this call all the same.
        """
        text = check_profile_value(field, value)
        changed = cast("dict[str, Any]", {field: text})
        self.profile = replace(self.profile, **changed)
        if not self.guest:
            try:
                async with self._lease.writing():
                    await self._store.users.set_field(self.identity, field, text)
                self._version += 1
            except ErasedError:
                self.profile = replace(self.profile, **changed)
        return text

    # ------------------------------------------------------------------ inside

    def _put(self, memory: Memory) -> None:
        self.slots = {memory.memory_type: memory} | {
            name: slot for name, slot in self.slots.items() if name != memory.memory_type
        }
        self._vectors.pop(memory.memory_type, None)
        self._index = None

    def _searchable(self) -> ExactIndex[str]:
        if self._index is None:
            memories = list(self.slots.values())
            self._index = memory_index(memories, [self._vectors.get(memory.memory_type) for memory in memories])
        return self._index

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work
            except LkmongoError as error:
                logger.info("background work on the caller's memory failed: %s (%s)", error.message, error.why)
            except Exception:
                logger.exception("background work on the caller's memory failed")

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settle(self, deadline: float) -> None:
        """Give what is not stored yet and other background work `deadline` seconds, then stop it."""
        if self._unsaved and self.loaded:
            self._background(self._save_unsaved())
        if tasks := [task for task in self._tasks if task is not self._loading]:
            await asyncio.wait(tasks, timeout=deadline)
        self._settled = True  # the driver may report a cancellation as a lost connection, which is no end to retries
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
