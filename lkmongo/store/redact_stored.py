"""Redacts what is stored already: of an earlier release, or under a policy that kept more.

Each document is changed for itself, and only if it is still as it was read. So a run may be stopped anywhere and
repeated: sessions that were done under the same policy are passed over, and in what is redacted nothing more is found.
A session that goes on is left to itself. A vector that was made of other words goes; `lkmongo db embed`, or the next
call of the person, makes another.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection

from lkmongo.confidential import WITHHELD
from lkmongo.conversation import Conversation, masks_of
from lkmongo.model import Turn, slot_words
from lkmongo.redaction import Redactor
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.encryption import MARK, owner_of, places, resealed
from lkmongo.store.mongo.schema import MEMORIES, MEMORY_HISTORY, SESSIONS, TURNS, USERS
from lkmongo.store.open import Store
from lkmongo.store.sessions.documents import HAS_RUN_OUT, VECTOR
from lkmongo.store.sessions.listing import SessionFilter
from lkmongo.store.sessions.sessions import LIVE

Document = dict[str, Any]

_BATCH = 200
"""Documents that are read at a time; of sessions, the turns of one."""
_DETECTORS = 1
"""To be raised when the detectors find more, so that sessions are looked at again."""
_DONE = "redacted_by"
"""The field of a session for the policy under which it was redacted here."""
_READ: Mapping[str, tuple[str, ...]] = {
    SESSIONS: ("session_id", "summary.text", "summary.topics", "summary.commitments", "learning", _DONE),
    MEMORIES: ("memory_type", "content", "dates", "former"),
    MEMORY_HISTORY: ("memory_type", "content", "dates", "offered"),
    USERS: ("name", "email", "fields", "last_session", "commitments"),
}
"""What is read of each collection."""
_VECTORS: Mapping[str, tuple[str, ...]] = {SESSIONS: VECTOR, MEMORIES: ("embedding", "embedding_model")}


@dataclass(slots=True)
class RedactedStored:
    """What was done, or would be.

    Attributes:
        sessions: how many were looked at.
        in_progress: sessions that were passed over as they go on; run it again when they have ended.
        documents: how many were changed, by collection.
        counts: how much was masked or dropped, by kind.
    """

    sessions: int = 0
    in_progress: int = 0
    documents: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)


async def redact_stored(
    store: Store,
    wanted: SessionFilter,
    *,
    dry_run: bool = False,
    on_progress: Callable[[RedactedStored], None] = lambda _: None,
) -> RedactedStored:
    """Redact sessions with their turns and summaries, and memories, their history and the profiles, of these people.

    Args:
        store: the database, with the policies.
        wanted: whose, and since when: that bounds sessions by their start, memories by their last change, and profiles
            not at all.
        dry_run: change nothing, and count.
        on_progress: called after each batch.

    Raises:
        DatabaseError: MongoDB failed; run it again, and it goes on where it stopped.
    """
    return await _Run(store, wanted, on_progress, dry_run=dry_run).run()


class _Run:
    def __init__(
        self, store: Store, wanted: SessionFilter, on_progress: Callable[[RedactedStored], None], *, dry_run: bool
    ) -> None:
        self._store = store
        self._wanted = wanted
        self._on_progress = on_progress
        self._dry_run = dry_run
        self._done = RedactedStored()
        self._redactors: dict[str, Redactor] = {}

    async def run(self) -> RedactedStored:
        await self._sessions()
        await self._documents(MEMORIES, "updated_at")
        await self._documents(MEMORY_HISTORY, "valid_to")
        await self._documents(USERS, None)
        return self._done

    def _redactor(self, tenant_id: str) -> Redactor:
        if tenant_id not in self._redactors:
            self._redactors[tenant_id] = self._store.redaction.redactor(tenant_id)
            self._redactors[tenant_id].counts = self._done.counts
        return self._redactors[tenant_id]

    # ---------------------------------------------------------------- sessions

    async def _sessions(self) -> None:
        sessions = self._store.db[SESSIONS]
        live = self._selector("started_at") | LIVE
        self._done.in_progress = await operations.read(lambda: sessions.count_documents(live))
        async for found in self._batches(SESSIONS, self._selector("started_at") | {"$expr": HAS_RUN_OUT}):
            for document in found:
                if document.get(_DONE) != self._mark(str(document.get("tenant_id"))):
                    await self._session(sessions, document)
            self._on_progress(self._done)

    async def _session(self, sessions: AsyncCollection[Document], document: Document) -> None:
        scope, session_id = owner_of(document), str(document.get("session_id"))
        tenant_id = scope.tenant_id
        before = Counter(self._done.counts)
        conversation = Conversation(self._redactor(tenant_id))
        turns = await self._store.sessions.turns(scope, session_id)
        kept = {turn.item_id: turn for turn in conversation.turns(turns)}
        changed = [kept[turn.item_id] for turn in turns if kept[turn.item_id] is not turn]
        # What an earlier run has masked shows; what it has dropped does not.
        counts = sum(map(masks_of, kept.values()), Counter()) | (self._done.counts - before)
        self._done.documents[TURNS] += len(changed)
        self._done.sessions += 1
        request = await self._request(SESSIONS, document)
        self._done.documents[SESSIONS] += request is not None
        if self._dry_run:
            return
        if changed:
            await self._store.sessions.amend(scope, session_id, {turn.item_id: _said(turn) for turn in changed})
        if request is not None:
            await operations.write(lambda: sessions.bulk_write([request]))
        if counts:
            await self._store.sessions.count_redacted(scope, session_id, counts)
        mark = {"$set": {_DONE: self._mark(tenant_id)}}
        await operations.write(lambda: sessions.update_one({"_id": document["_id"]}, mark))

    def _mark(self, tenant_id: str) -> str:
        """What identifies the policy and the detectors."""
        redactor = self._redactor(tenant_id)
        own = getattr(redactor.detector, "__qualname__", None)
        told = json.dumps([_DETECTORS, sorted(redactor.policy.items()), own])
        return hashlib.sha256(told.encode()).hexdigest()[:12]

    # ---------------------------------------------------------------- people

    async def _documents(self, name: str, at: str | None) -> None:
        """Redact the documents of a collection."""
        collection = self._store.db[name]
        async for found in self._batches(name, self._selector(at)):
            requests = [
                (owner_of(document), request)
                for document in found
                if (request := await self._request(name, document)) is not None
            ]
            self._done.documents[name] += len(requests)
            if requests and not self._dry_run:
                writes = [request for _, request in requests]
                await operations.write(lambda writes=writes: collection.bulk_write(writes, ordered=False))  # type: ignore[misc]
                for scope in dict.fromkeys(scope for scope, _ in requests):
                    await self._store.users.touch_memories(scope)  # a session in progress reads them anew
            self._on_progress(self._done)

    def _selector(self, at: str | None) -> Document:
        wanted = self._wanted
        selector: Document = {"tenant_id": wanted.tenant_id} if wanted.tenant_id is not None else {}
        selector |= {"user_id": wanted.user_id} if wanted.user_id is not None else {}
        bounds = {name: moment for name, moment in (("$gte", wanted.since), ("$lt", wanted.until)) if moment}
        return selector | ({at: bounds} if at and bounds else {})

    def _batches(self, name: str, selector: Document) -> AsyncIterator[list[Document]]:
        shown = dict.fromkeys(("tenant_id", "user_id", *_READ[name]), 1)
        return operations.read_in_batches(self._store.db[name], selector, shown, _BATCH)

    async def _request(self, name: str, document: Document) -> UpdateOne | None:
        """What redacts a document that is still as it was read; None if nothing in it is to be redacted."""
        scope, opened = owner_of(document), deepcopy(document)
        await self._store.encryption.open(name, [opened], scope)
        redactor, label = self._redactor(scope.tenant_id), slot_words(str(document.get("memory_type") or ""))
        changed: list[str] = []
        for holder, field_name, _, path in list(places(name, opened)):
            told = label or (field_name if path.startswith("fields.") else "")
            kept = redactor.value(holder[field_name], told)
            if kept != holder[field_name]:
                holder[field_name] = kept if kept or name == USERS else _NOTHING.get(field_name, kept)
                changed.append(path)
        if not changed:
            return None
        removed = [path for path in changed if name == USERS and (path == "email" or not _at(opened, path))]
        sealed = resealed(await self._store.encryption.cipher(scope), name, opened)
        wanted = {*changed, *([MARK] if "content" in changed else [])} - {*removed}
        update: Document = {}
        if values := {path: value for path, value in sealed.items() if path in wanted}:
            update["$set"] = values
        if gone := [*removed, *_VECTORS.get(name, ())]:
            update["$unset"] = dict.fromkeys(gone, "")
        return UpdateOne({"_id": document["_id"], **{path: _at(document, path) for path in changed}}, update)


_NOTHING = {"content": WITHHELD}
"""Stands in a fact of which nothing is left: without a content it could not be read."""


def _at(document: Any, path: str) -> Any:
    value = document
    for name in path.split("."):
        value = value[int(name)] if isinstance(value, list) else value.get(name) if isinstance(value, Mapping) else None
    return value


def _said(turn: Turn) -> dict[str, str]:
    said = {"content": turn.content, "arguments": turn.arguments, "output": turn.output}
    return {name: text for name, text in said.items() if text is not None}
