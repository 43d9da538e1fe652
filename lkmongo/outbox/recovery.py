"""Calls whose end nobody wrote: what they left on disk is stored, and they are marked as interrupted.

Everything here can be stopped anywhere and repeated: a file is deleted when all of it is stored, a turn is known by its
item's id, and of two values for one slot or field the newer one stays. What was said by somebody who was erased since
is deleted unread.
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
from lkmongo.outbox.journal import UNREADABLE, Entry, Spooled, SpoolError
from lkmongo.settings import Settings
from lkmongo.store.open import Store
from lkmongo.store.people.erase import sweep_behind
from lkmongo.store.people.forget import forget
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.sessions.documents import in_time_order, process_name

logger = logging.getLogger(__name__)

Outcome = Literal["complete", "interrupted", "continued", "erased"]
KILLED = "killed"
"""Why a call ended whose process is gone."""
_CHANGES = {"remember", "forget", "profile", "told", "gist"}
_MAX_SEQ = 2**31
LOOK_EVERY = 10.0
"""Seconds between two looks for calls of this machine that have died."""


@dataclass(slots=True)
class Recovered:
    """What became of one call.

    Attributes:
        scope: whose call it was.
        session_id: which.
        outcome: how it stands now; "continued" when another process goes on with it, so that what this one left of
            the conversation waits for its end.
        turns: how many were stored that were not there.
        changes: how many memories and profile fields were stored or forgotten.
        left_out: changes that are older than what is there, or than something that was forgotten since.
        damaged: lines of its file that could not be read.
    """

    scope: UserScope
    session_id: str
    outcome: Outcome = "interrupted"
    turns: int = 0
    changes: int = 0
    left_out: int = 0
    damaged: int = 0


async def recover(
    store: Store, folder: Path, database: str, *, on_trouble: Callable[[SpoolError], None] | None = None
) -> list[Recovered]:
    """Store what calls of this machine have left, and end those of every machine whose process is gone.

    Args:
        store: the database.
        folder: where the files are.
        database: which database this is; files for another one are left alone.
        on_trouble: told of files that are none, or that cannot be read or stored whole; the others are stored. By
            default that is logged.

    Raises:
        DatabaseError: MongoDB does not take it; what was stored by then is, and the rest is still on disk.
    """
    on_trouble = on_trouble or _log
    try:
        journal.remove_expired(folder)
        paths = journal.files(folder)
    except SpoolError as error:
        on_trouble(error)
        paths = []
    recovered = [found for path in paths if (found := await _recover_unless_locked(store, path, database, on_trouble))]
    lost = await store.sessions.interrupt_lost()
    return recovered + [Recovered(scope, session_id) for scope, session_id in lost]


async def recover_quietly(settings: Settings, store: Store) -> None:
    """Recover as `recover` does, as a call or a worker begins; failures are logged."""
    try:
        recovered = await recover(
            store,
            journal.journal_folder(settings.data_home),
            journal.database_id(settings),
            on_trouble=lambda error: logger.warning("%s", error.message),
        )
    except LkmongoError as error:
        logger.info("earlier calls are not recovered for now: %s (%s)", error.message, error.why)
        return
    for each in recovered:
        _tell(each)


async def keep_recovering(settings: Settings, store: Store) -> None:
    """Recover as `recover_quietly` does, and go on looking for calls of this machine that have died since; never returns.

    A look lists a folder. Only what was found abandoned by the look before is recovered: whoever sends another agent to
    such a call comes first, for that has to know how it was left.
    """
    await recover_quietly(settings, store)
    folder, database = journal.journal_folder(settings.data_home), journal.database_id(settings)
    before: set[Path] = set()
    in_vain: dict[Path, float] = {}  # and when they were written
    told = False
    while True:
        await asyncio.sleep(LOOK_EVERY)
        try:
            free = journal.abandoned(folder)
            due = [path for path, written in free.items() if path in before and in_vain.get(path) != written]
            before, in_vain = set(free), {path: written for path, written in in_vain.items() if path in free}
            for path in due:
                found = await _recover_unless_locked(store, path, database, _log)
                if found is None:
                    in_vain[path] = free[path]
                elif found.outcome != "continued":
                    _tell(found)
            told = False
        except LkmongoError as error:
            if not told:
                logger.info("calls that have died are not recovered for now: %s (%s)", error.message, error.why)
            told = True


def _tell(found: Recovered) -> None:
    logger.info("an earlier call is recovered: %s, %s, %d turns", found.session_id, found.outcome, found.turns)


def _log(error: SpoolError) -> None:
    logger.warning("%s (%s)", error.message, error.why or error.hint)


async def _recover_unless_locked(
    store: Store, path: Path, database: str, on_trouble: Callable[[SpoolError], None]
) -> Recovered | None:
    """Recover a file; None where its call goes on, or it is another database's, or it is in trouble, which is told."""
    try:
        with journal.locked(path) as is_ours:
            return await _recover_file(store, path, database, on_trouble) if is_ours else None
    except SpoolError as error:
        on_trouble(error)
        return None


async def _recover_file(
    store: Store, path: Path, database: str, on_trouble: Callable[[SpoolError], None]
) -> Recovered | None:
    left = journal.read(path)
    if left.database != database:
        return None
    try:
        found = await _store(store, left)
    except (DatabaseUnavailableError, AuthenticationError):
        raise
    except DatabaseError as error:  # such as a document that it does not take: others may fare better
        raise SpoolError(f"{path} cannot be stored: {error.message}", why=error.why) from error
    if found.outcome == "continued":
        return found
    if found.damaged and found.outcome != "erased":
        aside = journal.set_aside(path)
        on_trouble(
            SpoolError(
                f"{aside} is damaged: what can be read of it is stored, {found.damaged} of its lines cannot be",
                hint="look into it, and delete it",
            )
        )
    else:
        journal.remove(path)
    return found


async def _store(store: Store, left: Spooled) -> Recovered:
    record, scope = left.record, left.record.scope
    found = Recovered(scope, record.session_id, damaged=left.damaged)
    tombstones = Tombstones(store.db)

    async def is_erased() -> bool:
        return await tombstones.bars(scope, max(now() - (record.started_at or now()), timedelta()))

    if await is_erased():
        found.outcome = "erased"
        return found
    # While the lease is ours, an erasure waits for us. One that waited in vain is noticed after.
    is_ours = await store.sessions.claim(record, process_name(), instead_of=left.owner)
    for entry in left.entries:
        await _change(store, record, entry, found)
    if is_ours:
        await _store_turns(store, record, left.entries, found)
        for entry in left.entries:
            if entry["op"] == "was":
                await _take_over(store, entry, record, found)
        await _end(store, record, left.entries, found)
    else:
        found.outcome = "continued"
    if await is_erased():
        await sweep_behind(store.db, scope, record.session_id)
        found.outcome = "erased"
    return found


async def _store_turns(store: Store, record: SessionRecord, entries: Sequence[Entry], found: Recovered) -> None:
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


async def _take_over(store: Store, entry: Entry, record: SessionRecord, found: Recovered) -> None:
    """Let what was stored for a guest be the person's whom they have shown to be."""
    try:
        before = UserScope(tenant_id=entry["tenant_id"], user_id=entry["user_id"])
    except (KeyError, InvalidIdError):
        found.damaged += 1
        return
    if before != record.scope:
        turns = [(turn, True) for turn in await store.sessions.turns(before, record.session_id)]
        found.turns += await store.sessions.append_missing(record.scope, record.session_id, turns)
        await store.sessions.discard(before, record.session_id)


async def _change(store: Store, record: SessionRecord, entry: Entry, found: Recovered) -> None:
    """Store one change of what is remembered of the person."""
    if entry["op"] not in _CHANGES:
        if entry["op"] not in {"turn", "end", "was"}:
            found.damaged += 1
        return
    scope = record.scope
    try:
        at = _moment(entry["at"])
        match entry["op"]:
            case "remember":
                done = await store.memories.remember_if_newer(scope, entry["label"], entry["content"], at)
            case "forget":
                done = bool((await forget(store, scope, [entry["label"]], at=at, unless_newer=True)).deleted)
            case "profile":
                done = await store.users.set_field_if_newer(scope, entry["field"], entry["value"], at)
            case "told":
                done = await store.users.fill_field(scope, entry["field"], entry["value"], at)
            case _:
                last, since = LastSession(at, str(entry["gist"])), entry.get("since")
                began = (record.started_at or at) if since is None else _moment(since)
                await store.users.set_last_session(scope, last, started_at=began)
                return
    except UNREADABLE:
        found.damaged += 1
        return
    except InvalidTextError as error:  # written by another version, with other bounds
        logger.warning("a change of the call %s is left out: %s", record.session_id, error.message)
        done = False
    if done:
        found.changes += 1
    else:
        found.left_out += 1


async def _end(store: Store, record: SessionRecord, entries: Sequence[Entry], found: Recovered) -> None:
    """Write how the call ended: as it was to be written, or that it was cut off after its last turn."""
    ends = [entry for entry in entries if entry["op"] == "end"]
    if ends:
        end = ends[-1]
        report = end.get("report")
        try:
            ended = replace(
                record,
                status=SessionStatus.COMPLETE,
                ended_at=_moment(end["ended_at"]),
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
    """Whether an agent that went on with the call has written its end."""
    there = await store.sessions.get(ended.scope, ended.session_id)
    if there is None or there.status is not SessionStatus.COMPLETE or there.ended_at is None or ended.ended_at is None:
        return False
    return there.ended_at >= ended.ended_at


def was_entry(before: UserScope) -> Entry:
    """That a call was a guest's at first: what was stored for them is to be the person's."""
    return {"op": "was", "tenant_id": before.tenant_id, "user_id": before.user_id}


def turn_entry(turn: Turn, *, is_numbered: bool) -> Entry:
    """A turn as it is kept; `is_numbered` when its `seq` is the one that it has in the database."""
    kept = {name: value for name in Turn.__slots__ if (value := getattr(turn, name)) not in (None, {})}
    return {"op": "turn", "numbered": is_numbered, **kept, "kind": turn.kind.value}


def _turn(entry: Entry) -> tuple[Turn, bool]:
    """The turn of an entry, and whether it is numbered; raises one of `UNREADABLE` where that is not what it holds."""
    fields: dict[str, Any] = {name: clean(entry[name]) for name in Turn.__slots__ if name in entry}
    turn = Turn(**fields | {"kind": TurnKind(entry["kind"]), "created_at": _moment(entry["created_at"])})
    if not (isinstance(turn.item_id, str) and isinstance(turn.metrics, dict) and type(turn.seq) is int):
        raise TypeError
    if not 0 <= turn.seq < _MAX_SEQ:
        raise ValueError
    return turn, bool(entry["numbered"])


def _moment(value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError
    return value
