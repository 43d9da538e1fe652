"""Prewarming of a process before its job arrives: modules, connections, models.

A caller waits for everything that happens later, so whatever does not depend on the caller is done here.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from lkmongo import telemetry
from lkmongo.agent import models
from lkmongo.agent.models import ModelChoice, choose_model
from lkmongo.aio import level_of
from lkmongo.declarations import declare_agent
from lkmongo.embed.choose import embedder_for
from lkmongo.errors import LkmongoError
from lkmongo.store.mongo import client
from lkmongo.store.mongo.declared import keep_once
from lkmongo.store.open import Store, open_store

if TYPE_CHECKING:
    from livekit.agents import vad

    from lkmongo.embed.base import Embedder
    from lkmongo.settings import Settings

logger = logging.getLogger(__name__)

MODULES = (
    "lkmongo.agent.speculation",
    "livekit.agents.llm.async_toolset",
    "rapidfuzz.process",
    "bm25s",
)
"""What a session would import on demand, which takes a second and a half."""
MODELS_MODULES = ("openai.resources.chat.completions", "openai.lib.streaming.chat", "anyio._backends._asyncio")
"""What the first request to a language model would import, which takes a third of a second."""


class Prewarm:
    """The store with its connections, the embedder and the models, for the one job of this process."""

    def __init__(self, settings: Settings, *, dev: bool = False) -> None:
        """Start connecting, without waiting: MongoDB may be unreachable.

        Args:
            settings: the settings of this process.
            dev: let anyone in the room inspect the session.

        Raises:
            SettingsError: a setting is wrong.
        """
        self.settings = settings
        self.dev = dev
        declare_agent(settings.agent)
        self.embedder: Embedder = embedder_for(settings)
        telemetry.configure(settings)
        models.import_plugins(settings)
        self.vad: vad.VAD | None = models.load_vad(settings) if models.has_speech(settings) else None
        # Loading its certificates takes up to half a second. It is bound to no event loop before its first request.
        model = choose_model(settings)
        for name in (*MODULES, *MODELS_MODULES) if model else MODULES:
            importlib.import_module(name)
        self.model: ModelChoice = model or _demo_model()
        if settings.embedder_kind == "voyage":
            importlib.import_module("lkmongo.embed.voyage_answers")  # takes up to two seconds
        self._stack = AsyncExitStack()
        self._warming: asyncio.Task[None] | None = None
        self._opening = asyncio.run_coroutine_threadsafe(self._open(), client.start_client_loop())

    async def store(self) -> Store:
        """Wait until the store is open.

        Raises:
            EmbeddedError: the embedded mongod cannot run here.
        """
        return await asyncio.wrap_future(self._opening)

    async def close(self) -> None:
        await client.run_on_client_loop(self._close)
        await self.embedder.close()
        await self.model.close()

    async def _open(self) -> Store:
        store = await self._stack.enter_async_context(open_store(self.settings, stays_warm=True))
        self._warming = asyncio.create_task(self._warm(store))
        return store

    async def _warm(self, store: Store) -> None:
        try:
            await asyncio.gather(store.ping(), store.ping())  # two at once, to open both connections
        except LkmongoError as error:
            logger.debug("MongoDB is not connected yet: %s (%s)", error.message, error.why)
        try:
            await keep_once(store.db)
        except LkmongoError as error:
            logger.log(level_of(error), "the declarations could not be stored: %s (%s)", error.message, error.why)
        try:
            # A local model belongs to the process; a Voyage client would be bound to this loop.
            if self.settings.embedder_kind == "local":
                await self.embedder.warm()
        except LkmongoError as error:
            logger.debug("the embedding model is not warm: %s (%s)", error.message, error.why)

    async def _close(self) -> None:
        if self._warming:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        await self._stack.aclose()


def _demo_model() -> ModelChoice:
    from lkmongo.demo.llm import demo_model

    return demo_model()
