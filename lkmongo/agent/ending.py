"""The end of a session, in a room or in the console: the gist for the next session, the record, who is told of it."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from lkmongo import deadlines
from lkmongo.agent.turns import characters_of, extract, gist, redact_secrets
from lkmongo.aio import aside
from lkmongo.errors import LkmongoError
from lkmongo.model import SessionEnd, now
from lkmongo.outbox.webhook import Endpoint, deliver

if TYPE_CHECKING:
    from lkmongo.agent.caller_session import CallerSession, EndCallback
    from lkmongo.agent.learning import Learner
    from lkmongo.agent.recorder import Recorder
    from lkmongo.outbox.outbox import Saved
    from lkmongo.summary import Summary

logger = logging.getLogger(__name__)

MAX_GIST = 400
"""Maximum characters of the gist that the next session gets."""


async def end_session(
    session: CallerSession,
    reason: str,
    report: Callable[[], dict[str, Any]],
    *,
    ended_at: datetime,
    learns: bool = False,
) -> bool:
    """Complete the record of a session whose AgentSession is closed.

    Args:
        session: the session.
        reason: why it ended, in a word or two.
        report: makes the session report.
        ended_at: when it ended.
        learns: there is a language model to learn from the session afterwards; see `tell_end`.

    Returns:
        Whether everything that must be stored is in MongoDB.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + deadlines.HANG_UP - deadlines.KEEP_ON_DISK
    session.ending = True
    if session.recorder.is_held:
        await session.caller.flush(0)
        answer = session.caller.consent.report()["state"]
        await session.recorder.close_unkept(reason, ended_at, answer, session.store.sessions)
        return True
    began = session.recorder.record.started_at or ended_at
    if found := await aside(characters_of(session.said), lambda: _told(session, began)):
        session.summary, last = found
        session.caller.save_gist(last)
    deadline = max(deadlines.AWAY, until - deadlines.SETTLE - loop.time())
    settling = session.caller.flush(deadlines.SETTLE)
    summary = None if session.caller.forgot_something else session.summary  # erased meanwhile
    learn = learns and summary is not None
    return await session.recorder.close(
        reason, report, deadline, ended_at=ended_at, summary=summary, learn=learn, alongside=settling
    )


async def tell_end(
    session: CallerSession,
    reason: str,
    ended_at: datetime,
    *,
    stored: bool,
    began: datetime | None = None,
    learner: Learner | None = None,
) -> None:
    """Call the callbacks of `CallerSession.on_end`, deliver the webhook, and learn; what fails or is late is logged.

    Args:
        session: the session, its record completed as far as possible.
        reason: why it ended, in a word or two.
        ended_at: when it ended.
        stored: whether everything that must be stored is in MongoDB.
        began: since when the end is dealt with, from which the time that is left counts; by default since then.
        learner: learns from the session, in the time that is left.
    """
    recorder, record = session.recorder, session.recorder.record
    kept: Saved = "stored" if stored else "kept" if recorder.is_journaled else "not saved"
    end = SessionEnd(
        session.session_id,
        session.scope,
        session.caller.guest,
        session.room_name,
        record.started_at or ended_at,
        ended_at,
        reason,
        turns=0 if recorder.erased else len(session.said),
        changes=recorder.changes,
        saved=_saved(recorder, kept),
    )
    left = max(deadlines.AWAY, deadlines.HANG_UP - (now() - (began or ended_at)).total_seconds())
    work = [_call(callback, end, min(left, deadlines.END_CALLBACK)) for callback in session.end_callbacks]
    if session.webhook and end.saved == "stored":
        work.append(_deliver(session, session.webhook, left))
    if session.summary and end.saved == "stored":
        work.append(_embed(session, session.summary, min(left, deadlines.END_CALLBACK)))
    told = asyncio.gather(*work)
    learning = [_learn(session, learner, told, left)] if learner and end.saved == "stored" else []
    await asyncio.gather(told, *learning)


def _saved(recorder: Recorder, kept: Saved) -> Saved | Literal["erased", "taken over", "not agreed"]:
    if recorder.is_held:
        return "not agreed"
    if recorder.lease.refused:
        return "not saved"
    return "erased" if recorder.erased else "taken over" if recorder.lease.superseded else kept


async def _call(callback: EndCallback, end: SessionEnd, seconds: float) -> None:
    name = getattr(callback, "__qualname__", repr(callback))
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            result = callback(end)
            if isinstance(result, Awaitable):
                await result
    except Exception:
        if limit.expired():
            logger.warning("%s, called at the end of the session, took longer than %.1f s", name, seconds)
        else:
            logger.exception("%s, called at the end of the session, failed", name)


async def _deliver(session: CallerSession, webhook: Endpoint, seconds: float) -> None:
    """Make the first attempt; whatever fails, the webhook is due, and any process makes the next one."""
    record, owner = session.recorder.record, session.recorder.lease.owner
    try:
        async with asyncio.timeout(seconds):
            await deliver(session.store, webhook, record.scope, record.session_id, owner)
    except (LkmongoError, TimeoutError) as error:
        logger.info("the webhook could not be delivered yet: %s", error)
    except Exception:
        logger.exception("the webhook could not be delivered")


async def _learn(session: CallerSession, learner: Learner, told: Awaitable[object], seconds: float) -> None:
    """Make the first attempt; what fails or takes longer is due, and any process with a model makes the next one."""
    record, owner = session.recorder.record, session.recorder.lease.owner
    try:
        async with asyncio.timeout(seconds):
            if not session.webhook:
                await session.recorder.lease.release()  # an erasure need not wait for the model
            # The webhook is delivered under the same lease, and gives it up.
            wait = functools.partial(asyncio.shield, told)
            await learner.learn(record.scope, record.session_id, owner=owner, before_storing=wait)
    except (LkmongoError, TimeoutError) as error:
        logger.info("the session could not be learned from yet: %s", str(error) or "there was no time left")
    except Exception:
        logger.exception("the session could not be learned from")


async def _embed(session: CallerSession, summary: Summary, seconds: float) -> None:
    """Make the vector by which the summary is found; whatever fails, `lkmongo db embed` makes it later."""
    try:
        async with asyncio.timeout(seconds):
            await session.caller.embed_summary(session.session_id, summary)
    except (LkmongoError, TimeoutError) as error:
        logger.info("the summary of the session has no vector yet: %s", error)
    except Exception:
        logger.exception("the summary of the session could not be embedded")


def _told(session: CallerSession, began: datetime) -> tuple[Summary | None, str] | None:
    """What later sessions may know of this one: nothing of a guest's, without consent, or after a forgetting."""
    if session.caller.for_this_call or session.caller.forgot_something:
        return None
    said = [*session.before, *session.recorder.kept]
    told = redact_secrets(turn for turn in said if not session.recorder.has_dropped(turn)).turns
    if not any(turn.role == "user" for turn in told):
        return None
    return extract(told, MAX_GIST, began), gist(told, MAX_GIST)
