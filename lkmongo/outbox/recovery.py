"""Recovery of sessions whose process died: their journals are replayed, and they are marked as interrupted.

Recovery is idempotent: it can be stopped anywhere and repeated. A journal is deleted once all of it is stored, turns
are deduplicated by item id, and the newer of two values of a slot or field wins. The journal of a person who was erased
since is deleted without being replayed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lkmongo.aio import poll, running
from lkmongo.conversation import Conversation
from lkmongo.errors import (
    AuthenticationError,
    DatabaseError,
    DatabaseUnavailableError,
    InvalidIdError,
    InvalidTextError,
    LkmongoError,
)
from lkmongo.model import SessionRecord, UserScope, now
from lkmongo.outbox import journal
from lkmongo.outbox.apply import Target, apply
from lkmongo.outbox.earlier import counted, redacted
from lkmongo.outbox.journal import UNREADABLE, JournalContents, JournalError
from lkmongo.outbox.operations import (
    LANES,
    AddTurn,
    Change,
    End,
    MoveGuest,
    NoteConsent,
    Operation,
    operation_of,
    without_consent,
)
from lkmongo.outbox.sealed_journal import opened
from lkmongo.outbox.webhook import deliver_periodically
from lkmongo.settings import Settings
from lkmongo.store.mongo.cipher import EncryptionError
from lkmongo.store.open import Store
from lkmongo.store.people.admission import Admission, LoggedOutError, NotAdmittedError
from lkmongo.store.people.erase import sweep_behind
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.sessions.documents import RECOVERING, process_name

logger = logging.getLogger(__name__)

Outcome = Literal["complete", "interrupted", "continued", "erased", "refused"]
KILLED = "killed"
"""The close reason of a session whose process died."""
POLL_INTERVAL = 10.0
"""Seconds between two searches for abandoned journals on this machine."""


@dataclass(slots=True)
class Recovered:
    """The result of recovering one session.

    Attributes:
        scope: whose session it was.
        session_id: its id.
        outcome: its state now; "continued" if another process has taken it over, in which case the journal's turns are
            stored when that one has ended; "refused" if the caller's seal was not valid, so that nothing is stored.
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

    Webhooks that are due are delivered meanwhile.

    A journal is recovered only if the previous poll found it abandoned as well: `worker.resume` must come first,
    because it needs the state that the dead agent left.
    """
    async with running(deliver_periodically(settings, store)):
        await _recover_periodically(settings, store)


async def _recover_periodically(settings: Settings, store: Store) -> None:
    await recover_and_log(settings, store)
    folder, database = journal.journal_folder(settings.data_home), journal.database_id(settings)
    before: set[Path] = set()
    failed: dict[Path, float] = {}  # with their modification time, to try again when they change

    async def look() -> None:
        nonlocal before, failed
        free = journal.abandoned(folder)
        due = [path for path, written in free.items() if path in before and failed.get(path) != written]
        before, failed = set(free), {path: written for path, written in failed.items() if path in free}
        for path in due:
            found = await _recover_unless_locked(store, path, database, _log_error)
            if found is None:
                failed[path] = free[path]
            elif found.outcome != "continued":
                _log_recovered(found)

    await asyncio.sleep(POLL_INTERVAL)
    await poll(look, POLL_INTERVAL, "dead sessions could not be recovered")


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
        found = await _replay(store, contents, path.parent)
    except (DatabaseUnavailableError, AuthenticationError):
        raise
    except (DatabaseError, EncryptionError) as error:  # such as a rejected document: other journals may succeed
        raise JournalError(f"{path} cannot be stored: {error.message}", why=error.why) from error
    if found.outcome == "continued":
        return found
    if found.damaged and found.outcome not in {"erased", "refused"}:
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


async def _replay(store: Store, contents: JournalContents, folder: Path) -> Recovered:
    record, scope = contents.record, contents.record.scope
    found = Recovered(scope, record.session_id, damaged=contents.damaged)
    tombstones = Tombstones(store.db)
    if await tombstones.bars_session(record):
        found.outcome = "erased"
        return found
    if not await _is_admitted(store, record):
        found.outcome = "refused"
        return found
    entries, damaged = await opened(store.encryption, scope, record.session_id, folder, contents.entries)
    contents = replace(contents, entries=entries)
    found.damaged += damaged
    # While the lease is ours, an erasure waits for us. One that gave up waiting is noticed afterwards.
    owner = process_name() + RECOVERING
    is_ours = await store.sessions.claim(record, owner, instead_of=contents.owner)
    operations = await _allowed(store, scope, _read(contents, found))
    if not contents.redacted:
        conversation = Conversation(store.redaction.redactor(scope.tenant_id))
        kept = redacted(operations, conversation)
        found.left_out += len(operations) - len(kept)
        operations = [*kept, *counted(conversation)]
    to = Target(store, record, owner)
    await _store([each for each in operations if is_ours or each.lane == "memory"], to, found)
    if not is_ours:
        found.outcome = "continued"
    elif found.outcome != "complete" and not await store.sessions.interrupt(scope, record.session_id, KILLED):
        found.outcome = "complete"
    if await tombstones.bars_session(record):
        await sweep_behind(store.db, scope, record.session_id)
        found.outcome = "erased"
    return found


async def _is_admitted(store: Store, record: SessionRecord) -> bool:
    """Whether the seal that a session began with was valid then; MongoDB may have been away ever since."""
    if record.ticket is None:
        return True
    try:
        await Admission(store.db, record.ticket, record.started_at or now()).confirm()
    except NotAdmittedError as error:
        return isinstance(error, LoggedOutError)
    return True


def _read(contents: JournalContents, found: Recovered) -> list[Operation]:
    """The operations of a journal; the last of several with the same key, but every change of the person's memory."""
    operations: dict[Hashable, Operation] = {}
    for number, entry in enumerate(contents.entries):
        try:
            operation = operation_of(entry)
        except (InvalidIdError, *UNREADABLE):
            found.damaged += 1
        else:
            operations[number if operation.lane == "memory" else operation.key] = operation
    return list(operations.values())


async def _allowed(store: Store, scope: UserScope, operations: list[Operation]) -> list[Operation]:
    """What may still be stored: nothing that was said, if the caller withdrew their consent in the session or since."""
    stored = await store.users.consent(scope)
    answers = [*([stored] if stored else []), *(each.consent for each in operations if isinstance(each, NoteConsent))]
    if not answers or max(answers, key=lambda each: each.at).allows:
        return operations
    return [allowed for each in operations if (allowed := without_consent(each))]


async def _store(operations: Sequence[Operation], to: Target, found: Recovered) -> None:
    turns = [each for each in operations if isinstance(each, AddTurn)]
    batches: list[Sequence[Operation]] = [turns] if turns else []
    batches += [[each] for each in operations if not isinstance(each, AddTurn)]
    for batch in sorted(batches, key=lambda each: LANES.index(each[0].lane)):
        try:
            changed = await apply(batch, to)
        except UNREADABLE:
            found.damaged += 1
            continue
        except InvalidTextError as error:  # written by another version, with other limits
            logger.warning("a change of session %s is left out: %s", found.session_id, error.message)
            changed = 0
        match batch[0]:
            case Change():
                found.changes += changed
                found.left_out += not changed
            case AddTurn() | MoveGuest():
                found.turns += changed
            case End() if changed:
                found.outcome = "complete"
