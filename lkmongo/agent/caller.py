"""The caller of a session: profile and slots, loaded once, read from memory, written through to MongoDB.

Speech never waits for the database longer than a deadline: what is late is loaded in the background and used from then
on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Literal

from lkmongo import deadlines
from lkmongo.agent.slots import Slots
from lkmongo.aio import Background, Task
from lkmongo.backoff import retry_pause
from lkmongo.confidential import tells
from lkmongo.embed.base import Embedder
from lkmongo.errors import DatabaseUnavailableError, InvalidTextError, LkmongoError, NotFoundError, SecretError
from lkmongo.model import (
    MAX_SLOTS,
    Fact,
    Profile,
    UserScope,
    check_memory,
    now,
    slot_name,
    slot_words,
)
from lkmongo.outbox.operations import Change, FillProfile, Forget, Remember, SaveGist, SetProfile, applied_to
from lkmongo.outbox.outbox import Outbox, Saved
from lkmongo.store.open import Store
from lkmongo.store.people.users import check_profile_value

logger = logging.getLogger(__name__)


Status = Literal["loading", "known", "new", "guest"]


class Caller:
    """One person for the duration of one session."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        outbox: Outbox,
        *,
        guest: bool = False,
    ) -> None:
        """Load nothing yet; `preload` does. A guest is remembered for this session only."""
        self.scope = outbox.record.scope
        self.guest = guest
        self.profile = Profile(self.scope)
        self.loaded = guest
        self.forgot_something = False
        self.spoken_secrets: Callable[[], frozenset[str]] = frozenset
        """Returns the secrets mentioned in this session, which must not be remembered under any label."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after what is known has changed, for a model that is not told in each request."""
        self._was_known = False
        self._store = store
        self._embedder = embedder
        self._outbox = outbox
        outbox.on_acquired(self._record_last_seen)
        outbox.on_erased(self._become_guest)
        self._slots = Slots(embedder)
        self._version = self._own_changes = 0
        self._reread = False
        self._background = Background()
        self._loading: Task | None = None
        self._refreshing: Task | None = None
        self._preload_until = 0.0
        self._closing = False
        self.load_error: LkmongoError | None = None

    @property
    def slots(self) -> dict[str, Fact]:
        """The slots by label, newest first; `Fact.told` is what may be told to the caller or the model."""
        return self._slots.all

    @property
    def status(self) -> Status:
        if self.guest:
            return "guest"
        if not self.loaded:
            return "loading"
        return "known" if self._was_known else "new"

    @property
    def saved(self) -> Saved:
        """How durably the caller's changes are saved; for a guest, always "stored"."""
        return self._outbox.saved

    async def preload(self, deadline: float = deadlines.PRELOAD) -> bool:
        """Load profile and slots concurrently; loading continues in the background after the deadline.

        Args:
            deadline: in seconds from the first call of this method, so that no later caller waits longer.

        Returns:
            Whether they are loaded.
        """
        if self.guest:
            return True
        loading = self._loading or self._begin_loading(deadline)
        left = self._preload_until - time.monotonic()
        if left > 0 and not loading.done():
            await asyncio.wait({loading}, timeout=left)
            if not loading.done():
                self._store.breaker.failed()  # later turns need not wait to find out
        return self.loaded

    def _begin_loading(self, deadline: float) -> Task:
        self._loading = self._background.begin(self._load_with_retries())
        self._preload_until = time.monotonic() + deadline
        return self._loading

    async def _load_with_retries(self) -> None:
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
                if self._closing:
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
        self._apply(profile, slots)
        self._was_known = bool(slots or profile.name or profile.last_session or profile.memory_version)
        self.loaded = True
        self._background.begin(self._save_then_embed())

    async def _read(self) -> tuple[list[Fact], Profile | None]:
        while True:
            before = self._outbox.stored_count
            # The slots first: there may be many of them, and the profile arrives before the last one.
            read = await asyncio.gather(self._store.memories.contents(self.scope), self._store.users.get(self.scope))
            if self._outbox.stored_count == before:  # else it may lack a change stored meanwhile
                return read

    async def _save_then_embed(self) -> None:
        """Wait for pending changes before vectors, because a vector is accepted only for a stored slot."""
        await self._outbox.stored("memory")
        await self._load_vectors()

    def _record_last_seen(self) -> None:
        """Update `last_seen_at`, creating the profile if it is missing."""
        if self.guest:
            return

        async def seen() -> None:
            async with self._outbox.lease.writing():
                await self._store.users.seen(self.scope)

        self._background.begin(seen())

    def identify(self, scope: UserScope) -> None:
        """Turn the guest into an identified person, who keeps what the guest asked to be remembered.

        The outbox must have the person's scope already.
        """
        told = self.profile.values
        self.scope = scope
        self.guest = self.loaded = False
        self.profile = Profile(scope)
        self._slots.clear_vectors()  # those of a guest are not stored, so they must be made again
        for field, value in told.items():
            # Does not overwrite the person's profile: somebody else may have spoken before they were identified.
            self._outbox.add(FillProfile(self._outbox.lease.session_began, field, value))
        for memory in reversed(self.slots.values()):
            self._outbox.add(Remember(memory.updated_at or now(), memory.memory_type, memory.content))
        self._begin_loading(deadlines.PRELOAD)
        self.on_change()

    def _become_guest(self) -> None:
        """Continue without the data of a person who was erased during the session."""
        self.guest = self.loaded = self.forgot_something = True
        self.load_error = None
        self.scope = UserScope.guest(self.scope.tenant_id)
        self._apply(Profile(self.scope), [])
        self._slots.clear()

    def _apply(self, profile: Profile, slots: list[Fact]) -> None:
        self._version, self._own_changes = profile.memory_version, self._outbox.increments
        stored = {memory.memory_type: memory for memory in slots}
        known, self.profile = applied_to(self._outbox.pending("memory"), stored, profile)
        self._slots.replace_all(known)
        self._slots.speak(self.profile.preferred_language)
        self.on_change()

    async def refresh(self) -> None:
        """Reload profile and slots if another process has changed them; meant to run in the background."""
        if self.guest or not self.loaded:
            return
        await self._outbox.settle("memory", deadlines.ACKNOWLEDGED)
        version = await self._store.users.memory_version(self.scope)
        is_current = version == self._version + self._outbox.increments - self._own_changes
        if is_current and not self._reread:
            return
        # A version may be visible before its slot is, so read once more at the next turn.
        self._reread = not is_current
        scope = self.scope
        profile = await self._store.users.get(scope) or Profile(scope)
        slots = await self._store.memories.contents(scope)
        if not self.guest:
            self._apply(profile, slots)
            await self._load_vectors()

    def refresh_in_background(self) -> None:
        """Start `refresh`, unless one is running or MongoDB is unreachable."""
        if (self._refreshing is None or self._refreshing.done()) and not self._store.breaker.is_open:
            self._refreshing = self._background.begin(self._refresh_with_deadline())

    async def _refresh_with_deadline(self) -> None:
        with suppress(TimeoutError):  # the next turn tries again
            async with asyncio.timeout(deadlines.LOAD_ATTEMPT):
                await self.refresh()

    async def _load_vectors(self) -> None:
        """Load the slots' vectors, and embed the slots that have none."""
        stored = await self._store.memories.vectors(self.scope, self._embedder.model)
        if missing := self._slots.add_vectors(stored):
            await self._embed(missing)

    async def _embed(self, memories: list[Fact]) -> None:
        vectors = await self._embedder.embed([memory.embedded_text for memory in memories], kind="document")
        for memory, vector in zip(memories, vectors, strict=True):
            self._slots.add_vector(memory, vector)
            if not self.guest:
                await self._store.memories.set_vector(self.scope, memory, vector, self._embedder.model)

    async def remember(self, label: str, content: str) -> Fact:
        """Write a slot; `saved` says how durably. Its vector follows in the background.

        Raises:
            InvalidTextError: the label or content is invalid, or there are too many slots.
            SecretError: it is a secret, which must not be remembered.
        """
        name, text = check_memory(label, content)
        self._refuse_spoken_secret(f"{slot_words(name)}: {text}")
        # A label in another spelling replaces the existing slot.
        memory = Fact(self._slots.existing_label(name), text, updated_at=now())
        if memory.memory_type not in self.slots and len(self.slots) >= MAX_SLOTS:
            raise InvalidTextError(f"one person can have at most {MAX_SLOTS} memories")
        self._slots.put(memory)
        self.on_change()
        await self._write(Remember(memory.updated_at or now(), memory.memory_type, memory.content))
        self.slots.setdefault(memory.memory_type, memory)  # gone if they were erased meanwhile
        self._background.begin(self._embed([memory]))
        return memory

    def _refuse_spoken_secret(self, text: str) -> None:
        if tells(text, self.spoken_secrets()):
            raise SecretError

    def recall(self, label: str) -> Fact | None:
        """The slot with this label or another spelling of it, as it may be told.

        Raises:
            InvalidTextError: the label is invalid.
        """
        memory = self._slots.recall(label)
        return memory.told if memory else None

    async def forget(self, label: str) -> str:
        """Delete a slot, and the gists of this and the last session; `saved` says how durably.

        Before the slots are loaded, only a slot with exactly this label is deleted.

        Returns:
            The slot's label.

        Raises:
            InvalidTextError: the label is invalid.
            NotFoundError: there is no such slot.
        """
        memory = self.recall(label)
        name = memory.memory_type if memory else slot_name(label)
        if memory is None and self.loaded:
            raise NotFoundError(f"nothing is remembered as {slot_words(name)}")
        self.forgot_something = True
        self._slots.pop(name)
        self.profile = replace(self.profile, last_session=None)
        self.on_change()
        await self._write(Forget(now(), name))
        return name

    async def search(self, query: str, limit: int = 5, *, vector_of: str | None = None) -> list[Fact]:
        """The slots that match best, as they may be told; see `Slots.search`."""
        return [memory.told for memory in await self._slots.search(query, limit, vector_of=vector_of)]

    def relevant(self, text: str, limit: int = 20) -> list[Fact]:
        """The slots that share words with `text`, best first."""
        return self._slots.relevant(text, limit)

    async def set_profile(self, field: str, value: str) -> str:
        """Write a profile field and return the normalized value; `saved` says how durably.

        Raises:
            InvalidTextError: the field or the value is invalid.
            SecretError: it is a secret, which must not be remembered.
        """
        text = check_profile_value(field, value)
        self._refuse_spoken_secret(text)
        self.profile = self.profile.with_value(field, text)
        self.on_change()
        await self._write(SetProfile(now(), field, text))
        self.profile = self.profile.with_value(field, text)  # gone if they were erased meanwhile
        self._slots.speak(self.profile.preferred_language)
        return text

    def save_gist(self, gist: str) -> None:
        """Save for the next session what this one was about, unless something was forgotten."""
        if gist and not self.guest and not self.forgot_something:
            self._outbox.add(SaveGist(now(), gist, since=self._outbox.lease.session_began))

    async def _write(self, change: Change) -> None:
        if not self.guest:
            await self._outbox.write(change)

    async def flush(self, deadline: float) -> None:
        """Give background work `deadline` seconds to finish, then cancel it; sync to disk what is not stored."""
        if self._outbox.error or self.load_error:
            deadline = min(deadline, deadlines.ACKNOWLEDGED)
        await asyncio.gather(
            self._background.finish(deadline, without=[self._loading]), self._outbox.settle("memory", deadline)
        )
        self._closing = True
        await self._background.cancel()
