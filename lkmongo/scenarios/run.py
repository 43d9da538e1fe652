"""Run scenarios: each on an empty database of its own, in a MongoDB of their own."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from lkmongo.agent.assistant import check_assistant
from lkmongo.agent.models import check_language_model
from lkmongo.declarations import declare_agent, declared
from lkmongo.embed.choose import embedder_for
from lkmongo.errors import InvalidTextError, NotFoundError
from lkmongo.model import UserScope
from lkmongo.outbox import journal
from lkmongo.outbox.recovery import recover
from lkmongo.scenarios.calls import Answers, hold, hold_and_kill
from lkmongo.scenarios.days import filled, let_pass
from lkmongo.scenarios.expect import Failure, failures_after, failures_after_call, failures_of_call
from lkmongo.scenarios.scenario import Model, Scenario, Staff
from lkmongo.settings import Settings
from lkmongo.store.indexes import database_indexes
from lkmongo.store.open import Store, open_store
from lkmongo.store.people.corrections import set_known, undo_known
from lkmongo.store.people.erase import erase_known
from lkmongo.store.people.forget import forget_known
from lkmongo.store.seed.seeding import load_samples, seed
from lkmongo.store.seed.seeds import SeedData, load_seeds

if TYPE_CHECKING:
    from lkmongo.embed.base import Embedder


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a scenario; it passed if nothing failed."""

    scenario: Scenario
    failures: tuple[Failure, ...]
    seconds: float


async def run_scenarios(
    settings: Settings,
    scenarios: Sequence[Scenario],
    home: Path,
    *,
    model: Model | None = None,
    on_progress: Callable[[str], None] = lambda _text: None,
) -> AsyncIterator[Outcome]:
    """Run scenarios one after the other, and yield what came of each.

    MONGODB_URI and VOYAGE_API_KEY are not used: no user's database is touched, and no service is paid for but the
    language model.

    Args:
        settings: choose the agent, its instructions and the language model.
        scenarios: from `load_scenarios`.
        home: a folder for the embedded mongod.
        model: answers, whatever the scenarios say; by default a scenario's script or the model that it names, else the
            language model of the settings, else the demo responder.
        on_progress: called with what is going on.

    Raises:
        SettingsError: the agent cannot be used, or there is no language model and one is wanted.
        SeedError: a scenario's seed data is invalid.
        EmbeddedError: the embedded mongod cannot run here.
        DatabaseError: MongoDB answered with an error.
    """
    settings = settings.model_copy(
        update={
            "home": home,
            "mongodb_uri": None,
            "linger": None,
            "embeddings": "local",
            "search": "auto",
        }
    )
    check_assistant(settings)
    declare_agent(settings.agent)
    answering = [_answers(settings, scenario, model) for scenario in scenarios]
    data = {
        each.seeds: load_seeds(each.seeds, follow_links=True) if each.seeds else load_samples(declared())
        for each in scenarios
    }
    embedder = embedder_for(settings)
    try:
        async with open_store(settings, on_status=on_progress) as store:
            for scenario, answers in zip(scenarios, answering, strict=True):
                began = time.monotonic()
                # What the language model has not answered it does not learn from either.
                chosen = settings if answers == "configured" else settings.without_language_model()
                async with _database(chosen, store, data[scenario.seeds], embedder) as (own, own_store):
                    run = _Run(own, own_store, scenario, answers, on_progress)
                    failures = await run.failures()
                yield Outcome(scenario, tuple(failures), time.monotonic() - began)
    finally:
        await embedder.close()


def _answers(settings: Settings, scenario: Scenario, model: Model | None) -> Answers:
    if model is None and scenario.is_scripted:
        return "script"
    wanted = model or scenario.model
    if wanted == "configured":
        check_language_model(settings)
    return wanted or ("configured" if settings.llm_base_url or settings.inference else "demo")


@asynccontextmanager
async def _database(
    settings: Settings, store: Store, data: SeedData, embedder: Embedder
) -> AsyncIterator[tuple[Settings, Store]]:
    """An empty database with indexes and seed data, which is dropped afterwards."""
    name = f"scenario_{uuid4().hex[:12]}"
    db = store.db.client[name]
    try:
        await database_indexes.apply(db)
        await seed(db, data, embedder)
        yield settings.model_copy(update={"mongodb_db": name}), Store.of(db)
    finally:
        await db.client.drop_database(name)


class _Run:
    """One run of a scenario."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        scenario: Scenario,
        answers: Answers,
        on_progress: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._scenario = scenario
        self._answers = answers
        self._on_progress = on_progress
        self._killed: defaultdict[UserScope, list[str]] = defaultdict(list)

    async def failures(self) -> list[Failure]:
        """Hold all calls, and see what does not hold."""
        failures: list[Failure] = []
        calls = self._scenario.calls
        numbers = itertools.count(1)
        for step in self._scenario.steps:
            if isinstance(step, Staff):
                failures += await self._do(step)
                continue
            call, number = step, next(numbers)
            if call.later:
                await let_pass(self._store.db, call.later)
            self._on_progress(f"{self._scenario.name}: call {number} of {len(calls)}, {call.who}")
            session_id = self._killed[call.scope][-1] if call.resumes else f"scenario-{uuid4()}"
            if call.killed:
                self._killed[call.scope].append(session_id)
                heard = await hold_and_kill(self._settings, call, session_id, self._answers)
            else:
                heard = await hold(self._settings, call, session_id, self._answers)
            await self._recover()
            failures += [*failures_of_call(call, number, heard), *await failures_after_call(self._store, call, number)]
        for after in self._scenario.after:
            failures += await failures_after(self._store, after, self._killed[after.scope])
        return failures

    async def _do(self, step: Staff) -> list[Failure]:
        """Do what staff do, as the commands do it; what cannot be done is a failure."""
        store, scope, label = self._store, step.scope, step.label or ""
        self._on_progress(f"{self._scenario.name}: staff {step.deed}, {scope.user_id}")
        try:
            match step.deed:
                case "erase":
                    await erase_known(store.db, scope, by="staff")
                case "forget":
                    await forget_known(store, scope, [label])
                case "set":
                    await set_known(store, scope, label, filled(step.content))
                case "undo":
                    await undo_known(store, scope, label)
        except (NotFoundError, InvalidTextError) as error:
            return [Failure(step.line, f"staff can {step.deed} that", error.message, scope.user_id, 0)]
        return []

    async def _recover(self) -> None:
        """Store what a call has left in its journal: one that was killed, or on a busy machine any."""
        folder = journal.journal_folder(self._settings.data_home)
        await recover(self._store, folder, journal.database_id(self._settings))
