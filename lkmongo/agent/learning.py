"""Learning from a call that is over: one request to a language model, and what it proposes is stored.

That something is to be learned is stored with the end of the call, so a process that dies, or has no time left, is
followed by any other that has a model. What the model proposed is stored before it is applied: a process that dies in
between is followed by one that applies the same. Facts go the way of all that a session writes, as said when the caller
said it: what they changed or asked to be forgotten since wins.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from lkmongo import backoff, deadlines
from lkmongo.after_end import Mode, Proposal
from lkmongo.agent.learning_prompt import MAX_ANSWER, Answer, AnswerError, Question
from lkmongo.agent.learning_rules import Rules
from lkmongo.agent.turns import characters_of, redact_secrets, stored_by
from lkmongo.aio import aside, few_at_once, poll
from lkmongo.confidential import tells, without_secrets
from lkmongo.errors import LkmongoError, NotReadyError, SecretError
from lkmongo.model import Profile, SessionRecord, Turn, TurnKind, UserScope, now
from lkmongo.outbox.apply import Target
from lkmongo.outbox.learned import hold, store_proposals
from lkmongo.store.open import Store
from lkmongo.store.sessions.documents import lease_owner, summary_fields, summary_of
from lkmongo.store.sessions.learning import NOT_AGREED, dropped
from lkmongo.summary import Commitment, Summary
from lkmongo.tenants import Limits
from lkmongo.trust import BEGAN_HERE, Level, Needs

if TYPE_CHECKING:
    from livekit.agents.llm import LLM

    from lkmongo.agent.models import ModelChoice
    from lkmongo.embed.base import Embedder
    from lkmongo.redaction import Redactor
    from lkmongo.settings import Settings

logger = logging.getLogger(__name__)

POLL_INTERVAL = 15.0
"""Seconds between two searches for sessions to learn from."""
_BATCH = 50
_AT_ONCE = 4

Outcome = Literal["learned", "failed", "given up"]


@dataclass(frozen=True, slots=True)
class Learner:
    """What learns.

    Attributes:
        store: the database.
        embedder: makes vectors of what is learned.
        model: is asked.
        mode: whether facts are stored, or wait for somebody, or are not asked for.
        limits_of: what callers of a tenant may.
        needs_of: how sure it must be who speaks, for each slot of a tenant's callers.
    """

    store: Store
    embedder: Embedder
    model: LLM[Any]
    mode: Mode
    limits_of: Callable[[str], Limits] = lambda _: Limits()
    needs_of: Callable[[str], Needs] = lambda _: Needs()

    async def learn(
        self,
        scope: UserScope,
        session_id: str,
        *,
        owner: str | None = None,
        before_storing: Callable[[], Awaitable[object]] | None = None,
    ) -> Outcome | None:
        """Make one attempt to learn from a session, if it is due.

        Args:
            scope: whose session it is.
            session_id: the session.
            owner: who holds its lease, if it is alive.
            before_storing: awaited before the lease is taken.

        Returns:
            What came of it; None if nothing is due or to be learned, another process was faster, or the person was
            erased.

        Raises:
            DatabaseError: MongoDB failed; there will be another attempt.
        """
        record = await self.store.learning.claim(scope, session_id)
        if record is None or record.learning is None:
            return None
        is_last = record.learning.attempts > len(backoff.LEARN_SCHEDULE)
        try:
            answered = record if record.learning.asked_at else await self._ask(record)
            if answered is None:
                return None
            if before_storing:
                await before_storing()
            return await self._store(answered, owner or lease_owner())
        except (AnswerError, NotReadyError) as error:
            await self.store.learning.fail(record, error.message, given_up=is_last)
            level, outcome = (logging.WARNING, "given up") if is_last else (logging.INFO, "tried again later")
            logger.log(level, "learning from session %s is %s: %s", session_id, outcome, error.message)
            return "given up" if is_last else "failed"

    async def _ask(self, record: SessionRecord) -> SessionRecord | None:
        """Ask the model, and store what it proposes; None if there is nothing to ask, or the session is gone.

        Raises:
            AnswerError: the model did not answer, or not so that it can be used.
        """
        store, scope, session_id = self.store, record.scope, record.session_id
        turns, slots, profile, vectors, commitments = await asyncio.gather(
            store.sessions.turns(scope, session_id),
            store.memories.contents(scope),
            store.users.get(scope),
            store.memories.vectors(scope, self.embedder.model),
            store.summaries.open(scope),
        )
        told = await aside(characters_of(turns), lambda: redact_secrets(turns))
        is_open = {turn.item_id for turn in _without_closed(turns, self.needs_of(scope.tenant_id))}
        said = [turn for turn in told.turns if turn.item_id in is_open]
        why = await self._why_not(record, profile, is_empty=not any(turn.role == "user" for turn in said))
        if why or record.started_at is None:
            await store.learning.fail(record, why or "it was not recorded by an agent", given_up=True)
            return None
        question = Question(
            turns=said,
            began=record.started_at,
            ended=record.ended_at or said[-1].created_at,
            slots=slots,
            profile=profile or Profile(scope),
            commitments=commitments,
            noted=stored_by(turns),
            facts=self.mode != "off",
        )
        answer = question.read(await ask(self.model, question))
        known = await asyncio.to_thread(_read, vectors, self.embedder.dimensions)
        redactor = store.redaction.redactor(scope.tenant_id)
        proposals: Sequence[Proposal] = []
        if self.mode != "off":
            rules = Rules(
                session_id,
                said,
                told.secrets,
                slots,
                question.profile,
                question.noted,
                self.embedder,
                known,
                self.limits_of(scope.tenant_id).slots,
            )
            needs, level = self.needs_of(scope.tenant_id), _level(record)
            judged = [_kept(each, redactor) for each in await rules.judge(answer.facts)]
            proposals = [
                replace(each, state="suggested")
                if each.state == "proposed" and (self.mode == "suggest" or level < needs.slot(each.label))
                else each
                for each in judged
            ]
        summary = redactor.summary(_summary(record, answer, told.secrets))
        fields = summary_fields(summary) | {"closed": list(answer.closed)}
        return await store.learning.propose(record, proposals, fields)

    async def _why_not(self, record: SessionRecord, profile: Profile | None, *, is_empty: bool) -> str | None:
        """Why nothing may be learned from a session, if so."""
        if profile and profile.consent and not profile.consent.allows:
            return NOT_AGREED
        if record.scope.is_guest:
            return "a guest's"
        if is_empty:
            return "the caller said nothing"
        if record.started_at and await self.store.users.forgot_after(record.scope, record.started_at):
            return "something was forgotten since it began"
        return None

    async def _store(self, record: SessionRecord, owner: str) -> Outcome | None:
        """Apply what a model proposed, again if that was begun before.

        Raises:
            NotReadyError: another process holds the session's lease.
        """
        store, scope, session_id = self.store, record.scope, record.session_id
        proposals = record.learning.proposals if record.learning else ()
        answer = await store.learning.answer(record)
        summary = summary_of(answer)
        vector = await self._vector(summary.embedded_text) if summary and summary.text else None
        async with hold(store, record, owner) as is_ours:
            if not is_ours:
                return None
            consent = await store.users.consent(scope)
            if consent and not consent.allows:
                await store.learning.release(record, owner)
                await store.learning.fail(record, NOT_AGREED, given_up=True)
                return None
            if summary:
                model = self.embedder.model if vector is not None else None
                closed = [str(each) for each in answer.get("closed") or ()]
                await store.summaries.save(scope, session_id, summary, closed=closed, vector=vector, model=model)
            decisions = await store_proposals(Target(store, record, owner), proposals)
            settled = await store.learning.settle(record, owner, decisions)
        stored = [each.label for each in proposals if decisions.get(each.id) == ("stored", None)]
        await self._embed(scope, stored)
        counts = settled.learning.counts if settled and settled.learning else {}
        told = ", ".join(f"{number} {state}" for state, number in counts.items()) or "no facts"
        logger.info("learned from session %s: %s", session_id, told)
        return "learned"

    async def _vector(self, text: str) -> Any:
        try:
            return (await self.embedder.embed([text], kind="document"))[0]
        except LkmongoError as error:
            logger.info("the summary of a session has no vector: %s (%s)", error.message, error.why)
            return None

    async def _embed(self, scope: UserScope, labels: Sequence[str]) -> None:
        """Make the vectors of what was stored; a missing one is made when the person calls."""
        if not labels:
            return
        slots = [slot for slot in await self.store.memories.contents(scope) if slot.memory_type in labels]
        try:
            vectors = await self.embedder.embed([slot.embedded_text for slot in slots], kind="document")
        except LkmongoError as error:
            logger.info("what was learned has no vectors yet: %s (%s)", error.message, error.why)
            return
        for slot, vector in zip(slots, vectors, strict=True):
            await self.store.memories.set_vector(scope, slot, vector, self.embedder.model)


async def ask(model: LLM[Any], question: Question) -> str:
    """What a model answers, or the beginning of it if it is too long; raises AnswerError if it does not."""
    from livekit.agents import APIConnectOptions, llm

    context = llm.ChatContext.empty()
    context.add_message(role="system", content=question.instructions)
    much = characters_of(question.turns) + sum(len(each.content) for each in question.slots)
    context.add_message(role="user", content=await aside(much, lambda: question.data))
    once = APIConnectOptions(max_retry=0, timeout=deadlines.LEARN)
    said = ""
    try:
        async with asyncio.timeout(deadlines.LEARN), model.chat(chat_ctx=context, conn_options=once) as stream:
            async for chunk in stream:
                said += (chunk.delta.content or "") if chunk.delta else ""
                if len(said) > MAX_ANSWER:
                    break
    except Exception as error:
        raise AnswerError(f"the language model did not answer ({type(error).__name__})") from error
    return said


def _without_closed(turns: Sequence[Turn], needs: Needs) -> list[Turn]:
    """What was said, without what the assistant read out from a tool that needs more than a summary does.

    A later caller by telephone may be told the summary, and not what the tool says.
    """
    said: list[Turn] = []
    is_closed = False
    for turn in turns:
        if turn.kind is TurnKind.TOOL:
            is_closed = is_closed or (not turn.is_error and needs.tool(turn.name or "") > needs.everything)
        elif turn.kind is TurnKind.MESSAGE:
            is_closed = is_closed and turn.role != "user"
            said += [] if is_closed else [turn]
    return said


def _kept(proposal: Proposal, redactor: Redactor) -> Proposal:
    """The proposal as it may be stored: without a value of the profile that the policy does not keep."""
    if not proposal.content:
        return proposal
    try:
        content = redactor.fact(proposal.label, proposal.content)
    except SecretError:
        return dropped(proposal, "a secret")
    if proposal.kind == "profile" and content != proposal.content:
        return dropped(proposal, "a secret")
    return replace(proposal, content=content)


def _summary(record: SessionRecord, answer: Answer, secrets: frozenset[str]) -> Summary:
    """The summary without what must not be remembered."""
    commitments = [
        Commitment.of(each.text, each.by, each.turn.created_at, record.session_id, due=each.due)
        for each in answer.commitments
        if not tells(each.text, secrets)
    ]
    return Summary(
        without_secrets(answer.summary, secrets),
        at=record.started_at or record.ended_at or now(),
        topics=tuple(each for each in answer.topics if not tells(each, secrets)),
        commitments=tuple(commitments),
        by="model",
    )


def _level(record: SessionRecord) -> Level:
    """How sure it was who spoke: what is closed to them is left to staff."""
    if record.trust is None or record.trust == BEGAN_HERE:
        return Level.VERIFIED
    phone = record.report.get("phone")
    said = phone.get("level") if isinstance(phone, Mapping) else None
    return Level.VERIFIED if said == str(Level.VERIFIED) else Level.NAMED


def _read(vectors: Mapping[str, tuple[Any, Any]], dimensions: int) -> dict[str, Any]:
    from lkmongo.embed.vectors import from_bson

    read = {label: from_bson(value, dimensions) for label, (_, value) in vectors.items()}
    return {label: vector for label, vector in read.items() if vector is not None}


def learner_of(settings: Settings, store: Store, embedder: Embedder, model: ModelChoice | None) -> Learner | None:
    """What learns by a model; None without a language model."""
    if model is None or model.is_responder:
        return None
    return Learner(
        store,
        embedder,
        model.llm,
        settings.learn,
        settings.limits_of,
        lambda tenant_id: settings.tenant_policies().needs(tenant_id),
    )


async def learn_due(learner: Learner) -> list[Outcome]:
    """Make one attempt for each session, of all users, that is due; returns what became of them.

    Raises:
        DatabaseError: MongoDB failed.
    """
    sessions = await learner.store.learning.due(_BATCH)
    outcomes = await few_at_once([functools.partial(learner.learn, *session) for session in sessions], _AT_ONCE)
    return [outcome for outcome in outcomes if outcome]


async def learn_periodically(settings: Settings, store: Store, embedder: Embedder) -> None:
    """Run `learn_due` again and again, with the model that the settings choose; returns only if there is none."""
    if not settings.has_language_model:
        return
    model: ModelChoice | None = None

    async def look() -> None:
        nonlocal model
        if model is None and await store.learning.due(1):
            # Importing the SDK takes seconds, and it is needed only now. Its plugins refuse to be imported in a thread.
            models = await asyncio.to_thread(importlib.import_module, "lkmongo.agent.models")
            model = models.choose_model(settings)
        if learner := learner_of(settings, store, embedder, model):
            await learn_due(learner)

    try:
        await poll(look, POLL_INTERVAL, "sessions could not be learned from")
    finally:
        if model:
            await model.close()
