"""Recovery of sessions whose process died: their journals are replayed, and they are marked as interrupted.

Recovery is idempotent: it can be stopped anywhere and repeated. A journal is deleted once all of it is stored, turns
are deduplicated by item id, and the newer of two values of a slot or field wins. The journal of a person who was erased
since is deleted without being replayed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from lkmongo.errors import (
    AuthenticationError,
    DatabaseError,
    DatabaseUnavailableError,
    InvalidIdError,
    InvalidTextError,
    LkmongoError,
)
from lkmongo.model import LastSession, SessionRecord, SessionStatus, Turn, TurnKind, UserScope, clean, now
from lkmongo.outbox import journal
from lkmongo.outbox.journal import UNREADABLE, Entry, JournalContents, JournalError
from lkmongo.settings import Settings
from lkmongo.store.open import Store
from lkmongo.store.people.erase import sweep_behind
from lkmongo.store.people.forget import forget
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.sessions.documents import in_time_order, process_name

logger = logging.getLogger(__name__)

Outcome = Literal["complete", "interrupted", "continued", "erased"]
KILLED = "killed"
"""The close reason of a session whose process died."""
_CHANGES = {"remember", "forget", "profile", "told", "gist"}
_MAX_SEQ = 2**31
POLL_INTERVAL = 10.0
"""Seconds between two searches for abandoned journals on this machine."""


@dataclass(slots=True)
class Recovered:
    """The result of recovering one session.

    Attributes:
        scope: whose session it was.
        session_id: its id.
        outcome: its state now; "continued" if another process has taken it over, in which case the journal's turns are
            stored when that one has ended.
        turns: turns that were missing and are stored now.
        changes: memories and profile fields that were stored or forgotten.
        left_out: changes that are older than the stored value, or than a later forget.
        damaged: lines of its journal that could not be read.
    """

    scope: UserScope
    session_id: str
    outcome: Outcome = "interrupted"
    turns: int = 0
    changes: int = 0
    left_out: int = 0
    damaged: int = 0


async def recover(
    store: Store, folder: Path, database: str, *, on_error: Callable[[JournalError], None] | None = None
) -> list[Recovered]:
    """Replay the abandoned journals of this machine, and end the sessions of all machines whose lease has expired.

    Args:
        store: the database.
        folder: where the journals are.
        database: which database this is; journals for another one are left alone.
        on_error: called for each journal that cannot be read or not completely stored; logs by default.

    Raises:
        DatabaseError: MongoDB failed; what was not stored by then is still on disk.
    """
    on_error = on_error or _log_error
    try:
        journal.remove_expired(folder)
        paths = journal.files(folder)
    except JournalError as error:
        on_error(error)
        paths = []
    recovered = [found for path in paths if (found := await _recover_unless_locked(store, path, database, on_error))]
    lost = await store.sessions.interrupt_lost()
    return recovered + [Recovered(scope, session_id) for scope, session_id in lost]


async def recover_and_log(settings: Settings, store: Store) -> None:
    """Run `recover` when a session or a worker starts; failures are logged."""
    try:
        recovered = await recover(
            store,
            journal.journal_folder(settings.data_home),
            journal.database_id(settings),
            on_error=lambda error: logger.warning("%s", error.message),
        )
    except LkmongoError as error:
        logger.info("earlier sessions could not be recovered: %s (%s)", error.message, error.why)
        return
    for each in recovered:
        _log_recovered(each)


async def recover_periodically(settings: Settings, store: Store) -> None:
    """Run `recover_and_log`, then poll for sessions of this machine that have died since; never returns.

    A journal is recovered only if the previous poll found it abandoned as well: `worker.resume` must come first,
    because it needs the state that the dead agent left.
    """
    await recover_and_log(settings, store)
    folder, database = journal.journal_folder(settings.data_home), journal.database_id(settings)
    before: set[Path] = set()
    failed: dict[Path, float] = {}  # with their modification time, to try again when they change
    logged = False
    while True:
        await asyncio.sleep(POLL_INTERVAL)
        try:
            free = journal.abandoned(folder)
            due = [path for path, written in free.items() if path in before and failed.get(path) != written]
            before, failed = set(free), {path: written for path, written in failed.items() if path in free}
            for path in due:
                found = await _recover_unless_locked(store, path, database, _log_error)
                if found is None:
                    failed[path] = free[path]
                elif found.outcome != "continued":
                    _log_recovered(found)
            logged = False
        except LkmongoError as error:
            if not logged:
                logger.info("dead sessions could not be recovered; retrying: %s (%s)", error.message, error.why)
            logged = True


def _log_recovered(found: Recovered) -> None:
    logger.info("an earlier session is recovered: %s, %s, %d turns", found.session_id, found.outcome, found.turns)


def _log_error(error: JournalError) -> None:
    logger.warning("%s (%s)", error.message, error.why or error.hint)


async def _recover_unless_locked(
    store: Store, path: Path, database: str, on_error: Callable[[JournalError], None]
) -> Recovered | None:
    """Recover a journal; None if its session is alive, it is for another database, or it failed (see `on_error`)."""
    try:
        with journal.locked(path) as is_ours:
            return await _recover_file(store, path, database, on_error) if is_ours else None
    except JournalError as error:
        on_error(error)
        return None


async def _recover_file(
    store: Store, path: Path, database: str, on_error: Callable[[JournalError], None]
) -> Recovered | None:
    contents = journal.read(path)
    if contents.database != database:
        return None
    try:
        found = await _replay(store, contents)
    except (DatabaseUnavailableError, AuthenticationError):
        raise
    except DatabaseError as error:  # such as a rejected document: other journals may succeed
        raise JournalError(f"{path} cannot be stored: {error.message}", why=error.why) from error
    if found.outcome == "continued":
        return found
    if found.damaged and found.outcome != "erased":
        kept = journal.quarantine(path)
        on_error(
            JournalError(
                f"{kept} is damaged: {found.damaged} of its lines cannot be read; the others are stored",
                hint="inspect it, and delete it",
            )
        )
    else:
        journal.remove(path)
    return found


async def _replay(store: Store, contents: JournalContents) -> Recovered:
    record, scope = contents.record, contents.record.scope
    found = Recovered(scope, record.session_id, damaged=contents.damaged)
    tombstones = Tombstones(store.db)

    async def is_erased() -> bool:
        return await tombstones.bars(scope, max(now() - (record.started_at or now()), timedelta()))

    if await is_erased():
        found.outcome = "erased"
        return found
    # While the lease is ours, an erasure waits for us. One that gave up waiting is noticed afterwards.
    is_ours = await store.sessions.claim(record, process_name(), instead_of=contents.owner)
    for entry in contents.entries:
        await _replay_change(store, record, entry, found)
    if is_ours:
        await _replay_turns(store, record, contents.entries, found)
        for entry in contents.entries:
            if entry["op"] == "was":
                await _copy_guest_turns(store, entry, record, found)
        await _replay_end(store, record, contents.entries, found)
    else:
        found.outcome = "continued"
    if await is_erased():
        await sweep_behind(store.db, scope, record.session_id)
        found.outcome = "erased"
    return found


async def _replay_turns(store: Store, record: SessionRecord, entries: Sequence[Entry], found: Recovered) -> None:
    turns: dict[str, tuple[Turn, bool]] = {}
    for entry in entries:
        if entry["op"] == "turn":
            try:
                turn, is_numbered = _turn(entry)
            except UNREADABLE:
                found.damaged += 1
            else:
                turns[turn.item_id] = turn, is_numbered
    ordered = in_time_order(list(turns.values()))
    found.turns += await store.sessions.append_missing(record.scope, record.session_id, ordered)


async def _copy_guest_turns(store: Store, entry: Entry, record: SessionRecord, found: Recovered) -> None:
    """Move the turns stored for a guest to the person who was identified later."""
    try:
        before = UserScope(tenant_id=entry["tenant_id"], user_id=entry["user_id"])
    except (KeyError, InvalidIdError):
        found.damaged += 1
        return
    if before != record.scope:
        turns = [(turn, True) for turn in await store.sessions.turns(before, record.session_id)]
        found.turns += await store.sessions.append_missing(record.scope, record.session_id, turns)
        await store.sessions.discard(before, record.session_id)


async def _replay_change(store: Store, record: SessionRecord, entry: Entry, found: Recovered) -> None:
    if entry["op"] not in _CHANGES:
        if entry["op"] not in {"turn", "end", "was"}:
            found.damaged += 1
        return
    scope = record.scope
    try:
        at = _timestamp(entry["at"])
        match entry["op"]:
            case "remember":
                done = await store.memories.remember_if_newer(scope, entry["label"], entry["content"], at)
            case "forget":
                done = bool(await forget(store, scope, [entry["label"]], at=at, unless_newer=True))
            case "profile":
                done = await store.users.set_field_if_newer(scope, entry["field"], entry["value"], at)
            case "told":
                done = await store.users.fill_field(scope, entry["field"], entry["value"], at)
            case _:
                last, since = LastSession(at, str(entry["gist"])), entry.get("since")
                began = (record.started_at or at) if since is None else _timestamp(since)
                await store.users.set_last_session(scope, last, started_at=began)
                return
    except UNREADABLE:
        found.damaged += 1
        return
    except InvalidTextError as error:  # written by another version, with other limits
        logger.warning("a change of session %s is left out: %s", record.session_id, error.message)
        done = False
    if done:
        found.changes += 1
    else:
        found.left_out += 1


async def _replay_end(store: Store, record: SessionRecord, entries: Sequence[Entry], found: Recovered) -> None:
    """Complete the session with its journaled end, or mark it as interrupted."""
    ends = [entry for entry in entries if entry["op"] == "end"]
    if ends:
        end = ends[-1]
        report = end.get("report")
        try:
            ended = replace(
                record,
                status=SessionStatus.COMPLETE,
                ended_at=_timestamp(end["ended_at"]),
                close_reason=str(end["reason"]),
                report=report if isinstance(report, dict) else {},
            )
        except UNREADABLE:
            found.damaged += 1
        else:
            if not await _ended_later(store, ended):
                await store.sessions.save(ended)
                found.outcome = "complete"
                return
    if not await store.sessions.interrupt(record.scope, record.session_id, KILLED):
        found.outcome = "complete"


async def _ended_later(store: Store, ended: SessionRecord) -> bool:
    """Whether an agent that took the session over has completed it."""
    stored = await store.sessions.get(ended.scope, ended.session_id)
    if stored is None or stored.status is not SessionStatus.COMPLETE or not stored.ended_at or not ended.ended_at:
        return False
    return stored.ended_at >= ended.ended_at


def previous_scope_entry(before: UserScope) -> Entry:
    """The entry that says that a session began under the guest scope `before`."""
    return {"op": "was", "tenant_id": before.tenant_id, "user_id": before.user_id}


def turn_entry(turn: Turn, *, is_numbered: bool) -> Entry:
    """A turn as a journal entry; `is_numbered` if its `seq` is the one it has in the database."""
    kept = {name: value for name in Turn.__slots__ if (value := getattr(turn, name)) not in (None, {})}
    return {"op": "turn", "numbered": is_numbered, **kept, "kind": turn.kind.value}


def _turn(entry: Entry) -> tuple[Turn, bool]:
    """The turn of an entry, and whether it is numbered; raises one of `UNREADABLE` for anything else."""
    fields: dict[str, Any] = {name: clean(entry[name]) for name in Turn.__slots__ if name in entry}
    turn = Turn(**fields | {"kind": TurnKind(entry["kind"]), "created_at": _timestamp(entry["created_at"])})
    if not (isinstance(turn.item_id, str) and isinstance(turn.metrics, dict) and type(turn.seq) is int):
        raise TypeError
    if not 0 <= turn.seq < _MAX_SEQ:
        raise ValueError
    return turn, bool(entry["numbered"])


def _timestamp(value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError
    return value
