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
from datetime import datetime
from typing import Literal

from lkmongo import dates, deadlines
from lkmongo.agent.attention import Attention
from lkmongo.agent.former import Former
from lkmongo.agent.slots import Slots, existing_label
from lkmongo.aio import Background, Task
from lkmongo.backoff import retry_pause
from lkmongo.confidential import tells
from lkmongo.dates import zone_of
from lkmongo.embed.base import Embedder
from lkmongo.errors import DatabaseUnavailableError, InvalidTextError, LkmongoError, NotFoundError, SecretError
from lkmongo.model import (
    MAX_SLOTS,
    Fact,
    FormerFact,
    Profile,
    Source,
    UserScope,
    check_memory,
    now,
    slot_name,
    slot_words,
)
from lkmongo.outbox.operations import (
    Change,
    FillProfile,
    Forget,
    ForgetCalls,
    Remember,
    SaveGist,
    SetProfile,
    applied_to,
)
from lkmongo.outbox.outbox import Outbox, Saved
from lkmongo.search.past_calls import past_calls
from lkmongo.store.open import Store
from lkmongo.store.people.users import check_profile_value
from lkmongo.summary import PastCall, Summary

logger = logging.getLogger(__name__)


_BIRTHDAY = frozenset({"birthday", "date_of_birth", "birth_date", "birthdate", "my_birthday"})

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
        self.last_words: Callable[[], str | None] = lambda: None
        """Returns the id of the turn that the caller said last."""
        self._was_known = False
        self._store = store
        self._embedder = embedder
        self._outbox = outbox
        outbox.on_acquired(self._record_last_seen)
        outbox.on_erased(self._become_guest)
        self._slots = Slots(embedder)
        self._former = Former(embedder)
        self._reading_history: Task | None = None
        self._version = self._own_changes = 0
        self._reread = False
        self._background = Background()
        self._attention = Attention(self._slots, embedder, self._background)
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
        self._reading_history = self._background.begin(self._load_history())
        await self._outbox.stored("memory")
        await self._load_vectors()

    async def _load_history(self) -> None:
        """Load what was true, and move what an interrupted process left on the slots."""
        await asyncio.to_thread(dates.prepare)
        while True:
            before, scope = self._outbox.stored_count, self.scope
            former, waits = await self._store.history.read(scope)
            if self.guest or self.scope != scope:
                return
            if self._outbox.stored_count == before:  # else it may hold what was forgotten meanwhile
                break
        forgotten = {each.label for each in self._outbox.pending("memory") if isinstance(each, Forget)}
        self._former.loaded(each for each in former if each.memory_type not in forgotten)
        if waits:
            await self._settle_history(None)

    async def _settle_history(self, label: str | None) -> None:
        await self._outbox.stored("memory")
        async with self._outbox.lease.writing():
            await self._store.history.settle(self.scope, label)

    async def history_ready(self) -> None:
        """Wait a moment for what was true, if it is still being read."""
        if self._reading_history and not self._reading_history.done() and not self._store.breaker.is_open:
            await asyncio.wait({self._reading_history}, timeout=deadlines.MONGODB_READ)

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
        self._former = Former(self._embedder)
        for memory in reversed(self.slots.values()):
            self._outbox.add(_remember(memory, memory.valid_from))
        self._begin_loading(deadlines.PRELOAD)
        self.on_change()

    def _become_guest(self) -> None:
        """Continue without the data of a person who was erased during the session."""
        self.guest = self.loaded = self.forgot_something = True
        self.load_error = None
        self.scope = UserScope.guest(self.scope.tenant_id)
        self._apply(Profile(self.scope), [])
        self._slots.clear()
        self._attention.clear()
        self._former = Former(self._embedder)

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
            await self._load_history()
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

    async def remember(
        self, label: str, content: str, *, since: str | None = None, valid_from: datetime | None = None
    ) -> Fact:
        """Write a slot; `saved` says how durably. Its vector follows in the background; another value becomes a former.

        Args:
            label: of the slot.
            content: what is true; relative dates in it are resolved.
            since: since when, in words, such as "May" or "2026-05-01"; left out of account if they mean no day.
            valid_from: the same as a time.

        Raises:
            InvalidTextError: the label or content is invalid, or there are too many slots.
            SecretError: it is a secret, which must not be remembered.
        """
        name, text = check_memory(label, content)
        self._refuse_spoken_secret(f"{slot_words(name)}: {text}")
        # A label in another spelling replaces the existing slot.
        memory, stated = self._dated(existing_label(name, self.slots), text, since, valid_from)
        if memory.memory_type not in self.slots and len(self.slots) >= MAX_SLOTS:
            raise InvalidTextError(f"one person can have at most {MAX_SLOTS} memories")
        old = self.slots.get(memory.memory_type)
        if old:
            self._former.replaced(old, memory)
        self._slots.put(memory)
        self.on_change()
        await self._write(_remember(memory, stated))
        self.slots.setdefault(memory.memory_type, memory)  # gone if they were erased meanwhile
        self._background.begin(self._embed([memory]))
        if not self.guest and (not self.loaded or old or memory.memory_type in self._former.labels):
            self._background.begin(self._settle_history(memory.memory_type))
        return memory

    def _dated(
        self, label: str, text: str, since: str | None, valid_from: datetime | None
    ) -> tuple[Fact, datetime | None]:
        """The slot with its source and the days that it speaks of, and since when it is true, if that was said."""
        at, zone, old = now(), self.profile.timezone, self.slots.get(label)
        said = dates.start_of(since, at, zone) if since else None
        stated = valid_from or said or dates.start_in(text, at, zone)
        began = old.valid_from or old.updated_at if old and old.content == text else at
        birthday = next((slot.content for name, slot in self.slots.items() if name in _BIRTHDAY), None)
        source = Source("told", self._outbox.record.session_id, self.last_words())
        mentioned = dates.resolve(text, at, zone, birthday)
        return Fact(label, text, None, at, min(stated or began or at, at), source, mentioned), stated

    def _refuse_spoken_secret(self, text: str) -> None:
        if tells(text, self.spoken_secrets()):
            raise SecretError

    def former(self, label: str) -> list[FormerFact]:
        """The values that the label had before, as they may be told, newest first; raises as `recall` does."""
        return self._former.of(self._label(label))

    def _label(self, label: str) -> str:
        memory = self._slots.recall(label)
        return memory.memory_type if memory else existing_label(slot_name(label), self._former.labels)

    def search_former(self, query: str, limit: int = 5) -> list[FormerFact]:
        """The values that are no longer true that share words with the query, as they may be told, best first."""
        return self._former.search(query, limit)

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
        memory = self._slots.recall(label)
        name = memory.memory_type if memory else self._label(label)
        await self.history_ready()
        told = [slot_words(name), *([memory.content] if memory else [])]
        told += [each.content for each in self._former.of(name)]
        if not self._former.forget(name) and memory is None and self.loaded:
            raise NotFoundError(f"nothing is remembered as {slot_words(name)}")
        self.forgot_something = True
        self._slots.pop(name)
        self.profile = replace(self.profile, last_session=None)
        self.on_change()
        at = now()
        if memory and not self.guest:
            self._outbox.add(ForgetCalls(at, tuple(told)))
        await self._write(Forget(at, name, calls=memory is None))
        return name

    async def search(self, query: str, limit: int = 5, *, vector_of: str | None = None) -> list[Fact]:
        """The slots that match best, as they may be told; see `Slots.search`."""
        return [memory.told for memory in await self._slots.search(query, limit, vector_of=vector_of)]

    async def past_calls(
        self, query: str, *, since: datetime | None, until: datetime | None, without: str, limit: int = 3
    ) -> list[PastCall]:
        """The earlier calls that match best: see `search.past_calls`. Raises DatabaseError."""
        if self.guest:
            return []
        today = now().astimezone(zone_of(self.profile.timezone))
        found = await past_calls(
            self._store.summaries,
            self.scope,
            query,
            self._embedder,
            today=today,
            since=since,
            until=until,
            limit=limit,
            without=without,
        )
        if found.degraded:
            logger.info("past calls: %s", found.degraded)
        return found.calls

    async def attend(self, words: str) -> None:
        """Find out which slots are about what the caller said last; see `Attention`."""
        await self._attention.attend(words)

    @property
    def attended(self) -> str:
        """The words for which `attend` was awaited last."""
        return self._attention.words

    def expect(self, words: str) -> None:
        """Prepare for what the caller is probably saying."""
        self._attention.expect(words)

    def relevant(self, words: str) -> list[Fact]:
        """The slots that `words` are about, best first; by meaning, too, after `attend`."""
        return self._attention.relevant(words)

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

    async def embed_summary(self, session_id: str, summary: Summary) -> None:
        """Make and store the vector of a summary that is stored. Raises EmbeddingError and DatabaseError."""
        (vector,) = await self._embedder.embed([summary.embedded_text], kind="document")
        await self._store.summaries.set_vector(self.scope, session_id, summary, vector, self._embedder.model)

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


def _remember(memory: Fact, since: datetime | None) -> Remember:
    at = memory.updated_at or now()
    return Remember(at, memory.memory_type, memory.content, since, memory.source, memory.dates)
