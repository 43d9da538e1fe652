"""Prewarming of a process before its job arrives: the memory, modules, models.

A caller waits for everything that happens later, so whatever does not depend on the caller is done here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lkmongo.agent import models
from lkmongo.agent.models import ModelChoice, choose_model
from lkmongo.declarations import declare_agent
from lkmongo.memory.memory import Memory
from lkmongo.speech.choose import has_speech, load_engines
from lkmongo.speech.turn_detection import load_vad

if TYPE_CHECKING:
    from livekit.agents import JobProcess, vad

    from lkmongo.settings import Settings
    from lkmongo.store.open import Store

MODELS_MODULES = ("openai.resources.chat.completions", "openai.lib.streaming.chat", "anyio._backends._asyncio")
"""What the first request to a language model would import, which takes a third of a second."""


def load_shared(settings: Settings) -> None:
    """Load what all jobs of a process share: modules, plugins, models. It must be the main thread.

    Raises:
        SettingsError: a setting is wrong.
    """
    declare_agent(settings.agent)
    models.import_plugins(settings)
    load_engines(settings)
    if settings.has_language_model:
        for name in MODELS_MODULES:
            importlib.import_module(name)


class Prewarm:
    """The memory and the models, for one job."""

    def __init__(self, settings: Settings, process: JobProcess | None = None, *, dev: bool = False) -> None:
        """Start connecting, without waiting: MongoDB may be unreachable.

        Args:
            settings: the settings of this process.
            process: keeps the memory, so that `Memory.of` finds it.
            dev: let anyone in the room inspect the session.

        Raises:
            SettingsError: a setting is wrong.
        """
        self.settings = settings
        self.dev = dev
        self.memory = Memory(settings)
        self.embedder = self.memory.embedder
        self.vad: vad.VAD | None = load_vad(settings) if has_speech(settings) else None
        # Loading its certificates takes up to half a second. It is bound to no event loop before its first request.
        model = choose_model(settings)
        self.model: ModelChoice = model or _demo_model()
        self.memory.start(process, recover=False)  # the worker does that, after looking for callers who still wait

    async def store(self) -> Store:
        """Wait until the store is open.

        Raises:
            EmbeddedError: the embedded mongod cannot run here.
        """
        return await self.memory.store()

    async def close(self) -> None:
        await self.memory.close()
        await self.model.close()


def _demo_model() -> ModelChoice:
    from lkmongo.demo.llm import demo_model

    return demo_model()
