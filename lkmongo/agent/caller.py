"""The caller of a session: profile and slots, loaded once, read from memory, written through to MongoDB.

Speech never waits for the database longer than a deadline: what is late is used once it has been loaded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Literal

from lkmongo import dates, deadlines
from lkmongo.agent.attention import Attention
from lkmongo.agent.consent import CallerConsent
from lkmongo.agent.former import Former, dated, readable
from lkmongo.agent.gate import Gate, Phone
from lkmongo.agent.identified import Lent, told_by_guest
from lkmongo.agent.limits import Allowance
from lkmongo.agent.loading import Loading
from lkmongo.agent.slots import Slots, existing_label, told_of
from lkmongo.aio import Background, Repeat, Task
from lkmongo.confidential import tells
from lkmongo.embed.base import Embedder
from lkmongo.errors import LkmongoError, NotFoundError, SecretError
from lkmongo.model import Fact, FormerFact, Profile, Source, UserScope, check_memory, now, slot_name, slot_words
from lkmongo.outbox.applied import applied_to
from lkmongo.outbox.operations import Change, Forget, ForgetCalls, Remember, SaveGist, SetProfile
from lkmongo.outbox.outbox import Outbox, Saved
from lkmongo.store.open import Store
from lkmongo.store.people.take_back import Known
from lkmongo.store.people.users import check_profile_value, kept_profile_value
from lkmongo.summary import PastCall, Summary
from lkmongo.tenants import Limits, TenantPolicy, Tenants
from lkmongo.trust import Level, NotTrustedError

logger = logging.getLogger(__name__)

Status = Literal["loading", "known", "new", "guest", "recognised"]


class Caller:
    """One person for the duration of one session."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        outbox: Outbox,
        *,
        guest: bool = False,
        tenants: Tenants | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        """Load nothing yet; `preload` does. A guest is remembered for this session only.

        Where `tenants` say that the caller is asked, nothing is stored until they agree: see `consent`.
        """
        self.allowance = allowance or Allowance(Limits())
        self.scope = outbox.record.scope
        self.guest = guest
        self.profile = Profile(self.scope)
        self.loaded = guest
        self.known = Known({}, self.profile)
        """What was known of the person at first, in case they have to be given it back."""
        self.forgot_something = False
        self.spoken_secrets: Callable[[], Awaitable[frozenset[str]]] = _none
        """Returns the secrets mentioned in this session, which must not be remembered under any label."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after what is known has changed, for a model that is not told in each request."""
        self.last_words: Callable[[], str | None] = lambda: None
        """Returns the id of the turn that the caller said last."""
        self.gate = Gate(outbox.record.session_id)
        """What may be told to them and changed by them."""
        self.phone: Phone | None = None
        """Who they are as far as their telephone number tells; None unless they are on the telephone."""
        self.may_phone = False
        """Whether they may turn out to be on the telephone."""
        self._was_known = False
        self._store = store
        self._embedder = embedder
        self.outbox = outbox
        self.tenants = tenants or Tenants()
        self.consent = CallerConsent(self, outbox, store, self.tenants)
        outbox.on_acquired(self._record_last_seen)
        outbox.on_erased(self._become_guest)
        self._slots = Slots(embedder)
        self._stored = Loading(self, store, embedder, outbox, self._slots)
        self._former = Former(embedder)
        self._reading_history: Task | None = None
        self._reading_vectors: Task | None = None
        self._version = self._own_changes = 0
        self._reread = False
        self._lent = Lent()
        self._background = Background()
        self.attention = Attention(self._slots, embedder, self._background)
        self._loading: Task | None = None
        self._refreshing = Repeat(self._refresh_with_deadline, self._background.begin)
        self._preload_until = 0.0

    @property
    def load_error(self) -> LkmongoError | None:
        """Why the caller is not loaded yet; None while nothing has failed."""
        return self._stored.error

    @property
    def slots(self) -> dict[str, Fact]:
        """The slots by label, newest first; `Fact.told` is what may be told to the caller or the model."""
        return self._slots.all

    @property
    def characters(self) -> int:
        """Of all slots."""
        return self._slots.characters

    @property
    def status(self) -> Status:
        if self.guest:
            return "recognised" if self.phone and self.phone.candidates else "guest"
        if not self.loaded:
            return "loading"
        return "known" if self._was_known else "new"

    @property
    def policy(self) -> TenantPolicy:
        return self.tenants.policy(self.scope.tenant_id)

    @property
    def trust(self) -> str:
        """What the model is told of how sure it is who speaks; empty unless they are on the telephone."""
        return self.phone.sentence if self.phone else ""

    @property
    def for_this_call(self) -> bool:
        """Whether what they tell is known for this call only: a guest, or somebody who has not agreed."""
        return self.guest or self.consent.is_missing

    @property
    def saved(self) -> Saved:
        """How durably the caller's changes are saved; for a guest, always "stored"."""
        return self.outbox.saved

    async def preload(self, deadline: float = deadlines.PRELOAD) -> bool:
        """Load profile and slots concurrently; loading continues in the background after the deadline.

        Args:
            deadline: in seconds from the first call of this method, so that no later caller waits longer.

        Returns:
            Whether they are loaded.
        """
        if self.phone:
            await self.phone.recognised()
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
        if self._loading:
            self._loading.cancel()
        self._loading = self._background.begin(self._stored.until_loaded(self._load))
        self._preload_until = time.monotonic() + deadline
        return self._loading

    async def _load(self) -> None:
        scope = self.scope
        slots, profile = await self._stored.known(scope)
        if self.guest or self.scope != scope:
            return
        profile = profile or Profile(scope)
        if not self.known.slots:
            self.known = Known({each.memory_type: each for each in slots}, profile)
        self._apply(profile, slots)
        self._was_known = bool(slots or profile.name or profile.last_session or profile.memory_version)
        self.loaded = True
        self._background.begin(self.outbox.lease.confirm())
        self._reading_vectors = self._background.begin(self._save_then_embed())

    async def _save_then_embed(self) -> None:
        """Wait for pending changes before vectors, because a vector is accepted only for a stored slot."""
        self._reading_history = self._background.begin(self._load_history())
        await self.outbox.stored("memory")
        await self._stored.vectors()

    async def _load_history(self) -> None:
        """Load what was true, and move what an interrupted process left on the slots."""
        await asyncio.to_thread(dates.prepare)
        while True:
            before, scope = self.outbox.stored_count, self.scope
            stored, waits = await self._store.history.read(scope)
            former = self.gate.open_ones(await readable(stored))
            if self.guest or self.scope != scope:
                return
            if self.outbox.stored_count == before:  # else it may hold what was forgotten meanwhile
                break
        forgotten = {each.label for each in self.outbox.pending("memory") if isinstance(each, Forget)}
        self._former.loaded(each for each in former if each.memory_type not in forgotten)
        self._former.more = len(former) < len(self.gate.open_ones(stored))
        if waits:
            await self._settle_history(None)

    async def _settle_history(self, label: str | None) -> None:
        await self.outbox.stored("memory")
        if not self.for_this_call:
            async with self.outbox.writing():
                await self._store.history.settle(self.scope, label)

    async def history_ready(self) -> None:
        """Wait a moment for what was true, if it is still being read."""
        await self._ready(self._reading_history)

    async def _ready(self, reading: Task | None) -> None:
        if reading and not reading.done() and not self._store.breaker.is_open:
            await asyncio.wait({reading}, timeout=deadlines.MONGODB_READ)

    def _record_last_seen(self) -> None:
        """Update `last_seen_at`, creating the profile if it is missing, and register a web visitor's browser."""
        if self.guest:
            return

        async def seen() -> None:
            async with self.outbox.writing():
                await self._store.users.seen(self.scope, self.outbox.record.ticket)

        self._background.begin(seen())

    def identify(self, scope: UserScope) -> None:
        """Turn the guest, whose outbox is the person's already, into that person, who keeps what the guest told."""
        self.lend(Lent())
        told, slots = self.profile, reversed(self.slots.values())
        self.scope = scope
        self.guest = self.loaded = False
        self.profile = Profile(scope)
        self.known = Known({}, self.profile)
        self.consent.identified(scope)
        self._slots.clear_vectors()  # those of a guest are not stored, so they must be made again
        self._former = Former(self._embedder)
        # What the policy of their tenant keeps.
        since, kept = self.outbox.lease.session_began, self.outbox.conversation.fact
        for change in told_by_guest(told, slots, since=since, kept=kept, gate=self.gate):
            self.outbox.add(change)
        self._begin_loading(deadlines.PRELOAD)
        self.on_change()

    def lend(self, lent: Lent) -> None:
        """Let a guest have this, instead of what was lent to them before."""
        self.profile, slots = lent.instead_of(self._lent, self.profile, self.slots)
        self._lent = lent
        self._slots.replace_all(slots)
        self._slots.speak(self.profile.preferred_language)
        self.on_change()

    def reload(self) -> None:
        """Load again what is known, of which more may be told now."""
        if not self.guest:
            self._begin_loading(deadlines.PRELOAD)

    def step_back(self, guest: UserScope) -> None:
        """Be a guest again, who turned out not to be the person: nothing of theirs stays here."""
        self._become_guest()
        self.scope, self.profile = guest, Profile(guest)
        self.on_change()

    def _become_guest(self) -> None:
        """Continue without the data of a person who was erased during the session, or whose seal is not valid."""
        self.guest = self.loaded = self.forgot_something = True
        self._stored.error = None
        self.consent.end()
        self.scope = UserScope.guest(self.scope.tenant_id)
        self._apply(Profile(self.scope), [])
        self._slots.clear()
        self.attention.clear()
        self._former = Former(self._embedder)

    def _apply(self, profile: Profile, slots: list[Fact]) -> None:
        self._version, self._own_changes = profile.memory_version, self.outbox.increments
        stored = {memory.memory_type: memory for memory in self.gate.open_ones(slots)}
        changes = self.outbox.pending("memory")
        known, self.profile = applied_to(changes, stored, self.gate.open_profile(profile))
        self._slots.replace_all(known)
        self._slots.speak(self.profile.preferred_language)
        self.consent.loaded(profile)
        self.on_change()

    async def refresh(self) -> None:
        """Reload profile and slots if another process has changed them; meant to run in the background."""
        if self.guest or not self.loaded:
            return
        scope = self.scope
        await self.outbox.settle("memory", deadlines.ACKNOWLEDGED)
        version = await self._store.users.memory_version(scope)
        is_current = version == self._version + self.outbox.increments - self._own_changes
        if is_current and not self._reread:
            return
        # A version may be visible before its slot is, so read once more at the next turn.
        self._reread = not is_current
        profile = await self._store.users.get(scope) or Profile(scope)
        slots = await self._store.memories.contents(scope)
        if not self.guest and self.scope == scope:  # else they turned out to be somebody else meanwhile
            self._apply(profile, slots)
            await self._load_history()
            await self._stored.vectors()

    def refresh_in_background(self) -> None:
        """Start `refresh`, once more after one that is running, unless MongoDB is unreachable."""
        if not self._store.breaker.is_open:
            self._refreshing.begin()

    async def _refresh_with_deadline(self) -> None:
        with suppress(TimeoutError):  # the next turn tries again
            async with asyncio.timeout(deadlines.LOAD_ATTEMPT):
                await self.refresh()

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
            InvalidTextError: the label or content is invalid.
            LimitError: it is more than the caller may: see `Allowance`.
            NotTrustedError: the slot is closed to them.
            SecretError: it is a secret, which must not be remembered.
        """
        name, text = check_memory(label, content)
        await self._refuse_spoken_secret(f"{slot_words(name)}: {text}")
        text = self.outbox.conversation.fact(name, text)
        if self.outbox.conversation.redactor.find(label) != []:
            raise SecretError  # a label is stored as it is
        # A label in another spelling replaces the existing slot.
        source = Source("told", self.outbox.record.session_id, self.last_words())
        name = existing_label(name, self.slots)
        if name not in self.slots and not self.guest:
            self.gate.check(name)
        memory, stated = dated(name, text, since, valid_from, source, self.slots, self.profile.timezone)
        self.allowance.room(self._slots, memory)
        self.allowance.change()
        old = self.slots.get(memory.memory_type)
        if old and not old.is_unread and not self._lent.holds(old):
            self._former.replaced(old, memory)
        self._slots.put(memory)
        self.on_change()
        await self._write(Remember.fact(memory, stated))
        if memory.memory_type not in self.slots:  # gone if they were erased meanwhile
            self._slots.put(memory)
        self._background.begin(self._stored.embed([memory]))
        if not self.guest and (not self.loaded or old or memory.memory_type in self._former.labels):
            self._background.begin(self._settle_history(memory.memory_type))
        return memory

    async def _refuse_spoken_secret(self, text: str) -> None:
        if tells(text, await self.spoken_secrets()):
            raise SecretError

    def former(self, label: str) -> list[FormerFact]:
        """The values that the label had before, as they may be told, newest first; raises as `recall` does."""
        return self._former.of(self._label(label))

    def _label(self, label: str) -> str:
        memory = self._slots.recall(label)
        return memory.memory_type if memory else existing_label(slot_name(label), self._former.labels)

    async def search_former(self, query: str, limit: int = 5) -> list[FormerFact]:
        """The values that are no longer true that share words with the query, as they may be told, best first."""
        return await self._former.search(query, limit)

    def recall(self, label: str) -> Fact | None:
        """The slot with this label or another spelling of it, as it may be told.

        Raises:
            InvalidTextError: the label is invalid.
        """
        memory = self._slots.recall(label)
        return memory.told if memory else None

    async def read(self, label: str) -> Fact | None:
        """As `recall`, with its text if that was not loaded; None as well if it cannot be read now."""
        memory = self._slots.recall(label)
        return next(iter(await told_of(await self._stored.whole([memory]))), None) if memory else None

    async def forget(self, label: str) -> str:
        """Delete a slot, and the gists of this and the last session; `saved` says how durably.

        Before the slots are loaded, only a slot with exactly this label is deleted.

        Returns:
            The slot's label.

        Raises:
            InvalidTextError: the label is invalid.
            NotFoundError: there is no such slot.
            NotTrustedError: the slot is closed to them, or would have to be deleted before it is sure who they are.
        """
        memory = self._slots.recall(label)
        name = memory.memory_type if memory else self._label(label)
        if memory is None:
            self.gate.check(name)
        if self.consent.is_missing and self.outbox.holds_back:
            raise NotTrustedError(Level.VERIFIED)  # it would be deleted at once, and could not be taken back
        is_read = memory is not None and not memory.is_unread  # else what it says is found out when it is deleted
        await self.history_ready()
        told = [slot_words(name), *([memory.content] if memory and is_read else [])]
        told += [each.content for each in self._former.of(name)]
        if not self._former.forget(name) and memory is None and self.loaded and not self._former.more:
            raise NotFoundError(f"nothing is remembered as {slot_words(name)}")
        self.forgot_something = True
        self._slots.pop(name)
        self.profile = replace(self.profile, last_session=None)
        self.on_change()
        at = now()
        if self._was_known:
            await self.consent.forget(name, at)
        if is_read and not self.guest:
            self.outbox.add(ForgetCalls(at, tuple(told)))
        await self._write(Forget(at, name, calls=not is_read))
        return name

    async def search(self, query: str, limit: int = 5, *, vector_of: str | None = None) -> list[Fact]:
        """The slots that match best, as they may be told; see `Slots.search`. Waits a moment for vectors being read."""
        await self._ready(self._reading_vectors)
        found = await self._slots.search(query, limit, vector_of=vector_of)
        return await told_of(await self._stored.whole(found))

    async def past_calls(
        self, query: str, *, since: datetime | None, until: datetime | None, without: str
    ) -> list[PastCall]:
        """The three earlier calls that match best: see `search.past_calls`. Raises DatabaseError, NotTrustedError."""
        self.gate.check_everything()
        return [] if self.guest else await self._stored.past_calls(query, since=since, until=until, without=without)

    def relevant(self, words: str) -> list[Fact]:
        """The slots that `words` are about, best first; by meaning, too, after `attend`."""
        return self.attention.relevant(words)

    async def set_profile(self, field: str, value: str) -> str:
        """Write a profile field and return the normalized value; `saved` says how durably.

        Raises:
            InvalidTextError: the field or the value is invalid.
            LimitError: there were too many changes in this call.
            NotTrustedError: the field is closed to them.
            SecretError: it is a secret, which must not be remembered.
        """
        text = check_profile_value(field, value)
        if not self.guest:
            self.gate.check(field)
        await self._refuse_spoken_secret(text)
        text = kept_profile_value(field, text, self.outbox.conversation.fact)
        self.allowance.change()
        self.profile = self.profile.with_value(field, text)
        self.on_change()
        await self._write(SetProfile(now(), field, text))
        self.profile = self.profile.with_value(field, text)  # gone if they were erased meanwhile
        self._slots.speak(self.profile.preferred_language)
        return text

    def save_gist(self, gist: str) -> None:
        """Save for the next session what this one was about, unless something was forgotten."""
        if gist and not self.guest and not self.forgot_something:
            self.outbox.add(SaveGist(now(), gist, since=self.outbox.lease.session_began))

    async def embed_summary(self, session_id: str, summary: Summary) -> None:
        """Make and store the vector of a summary that is stored. Raises EmbeddingError and DatabaseError."""
        (vector,) = await self._embedder.embed([summary.embedded_text], kind="document")
        await self._store.summaries.set_vector(self.scope, session_id, summary, vector, self._embedder.model)

    async def _write(self, change: Change) -> None:
        if not self.guest:
            await self.outbox.write(change)

    async def flush(self, deadline: float) -> None:
        """Give background work `deadline` seconds to finish, then cancel it; sync to disk what is not stored."""
        if self.outbox.error or self.load_error:
            deadline = min(deadline, deadlines.ACKNOWLEDGED)
        await asyncio.gather(
            self._background.finish(deadline, without=[self._loading]), self.outbox.settle("memory", deadline)
        )
        self._stored.closing = True
        self.consent.end()
        await self._background.cancel()


async def _none() -> frozenset[str]:
    return frozenset()
