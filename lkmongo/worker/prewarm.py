"""What a job's process makes ready before a job arrives: modules, connections, models.

A caller waits for what happens after; so everything that does not depend on who calls is done here.
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
from lkmongo.embed.choose import embedder_for
from lkmongo.errors import LkmongoError
from lkmongo.store.mongo import client
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
"""What a call imports on its way, here before it: together a second and a half."""
MODELS_MODULES = ("openai.resources.chat.completions", "openai.lib.streaming.chat", "anyio._backends._asyncio")
"""What the first request to a language model imports beside: a third of a second."""


class Prewarm:
    """The store with its connections, the embedder and what hears speech, for the one job of this process."""

    def __init__(self, settings: Settings, *, dev: bool = False) -> None:
        """Begin to connect, without waiting for it: MongoDB may be away.

        Args:
            settings: this process's.
            dev: let anybody in the room look into the session.

        Raises:
            SettingsError: a setting does not fit.
        """
        self.settings = settings
        self.dev = dev
        self.embedder: Embedder = embedder_for(settings)
        telemetry.configure(settings)
        models.import_plugins(settings)
        self.vad: vad.VAD | None = models.load_vad(settings) if models.has_speech(settings) else None
        # Its certificates take up to half a second to load. It belongs to no loop before its first request.
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
        """The store, open.

        Raises:
            EmbeddedError: the embedded mongod cannot run here.
        """
        return await asyncio.wrap_future(self._opening)

    async def close(self) -> None:
        """Close the connections."""
        await client.run_on_client_loop(self._close)
        await self.embedder.close()
        await self.model.close()

    async def _open(self) -> Store:
        store = await self._stack.enter_async_context(open_store(self.settings, stays_warm=True))
        self._warming = asyncio.create_task(self._warm(store))
        return store

    async def _warm(self, store: Store) -> None:
        try:
            await asyncio.gather(store.ping(), store.ping())  # two at a time, so that both connections are made
        except LkmongoError as error:
            logger.debug("there are no connections yet: %s (%s)", error.message, error.why)
        try:
            if self.settings.embedder_kind == "local":
                await self.embedder.warm()  # the model is the process's; a Voyage client would be this loop's
        except LkmongoError as error:
            logger.debug("the model is not warm: %s (%s)", error.message, error.why)

    async def _close(self) -> None:
        if self._warming:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        await self._stack.aclose()


def _demo_model() -> ModelChoice:
    from lkmongo.demo.llm import demo_model

    return demo_model()
