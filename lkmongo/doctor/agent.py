"""The agent: its class and instructions, and the language model that it speaks through."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

from lkmongo.doctor.check import Finding, failed, ok, warn
from lkmongo.doctor.http import PATIENCE, UnreachableError, reason
from lkmongo.errors import AuthenticationError

if TYPE_CHECKING:
    import aiohttp

    from lkmongo.settings import Settings

_NAMED = 5


async def own_class(settings: Settings) -> Finding:
    """Whether the agent can be built: its class imported, its instructions read.

    Raises:
        SettingsError: LKMONGO_AGENT or LKMONGO_INSTRUCTIONS does not fit.
    """
    loading = await asyncio.to_thread(importlib.import_module, "lkmongo.agent.loading")  # the SDK takes seconds
    assistant = loading.create_assistant(settings)
    said = f"{settings.agent or 'the assistant'}, with {len(assistant.tools)} tools"
    return ok(said, *([f"instructions from {settings.instructions}"] if settings.instructions else []))


async def mind(settings: Settings) -> Finding:
    """Who answers: the language model, or the demo responder. A server of one's own is asked for its models.

    Raises:
        SettingsError: the settings of LiveKit Inference are incomplete.
        UnreachableError: nobody answers at LKMONGO_LLM_BASE_URL.
    """
    pipeline = await asyncio.to_thread(importlib.import_module, "lkmongo.agent.pipeline")
    if settings.llm_base_url:
        return await _language_model_server(settings)
    chosen = pipeline.choose_mind(settings)
    if chosen is None:
        said = "the demo responder: there is no language model"
        if settings.livekit is None:
            return ok(said)
        return warn(said, "set LKMONGO_LLM_BASE_URL; lkmongo agent run takes no calls without it, unless with --demo")
    await chosen.llm.aclose()
    return ok(chosen.description)


async def _language_model_server(settings: Settings) -> Finding:
    """Whether the server of LKMONGO_LLM_BASE_URL lists the model of LKMONGO_LLM."""
    import aiohttp

    base = settings.llm_base_url or ""
    where = base.partition("?")[0]
    headers = {"Authorization": f"Bearer {settings.llm_api_key.get_secret_value()}"} if settings.llm_api_key else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session,
            session.get(f"{base}/models", headers=headers) as response,
        ):
            if response.status in {401, 403}:
                return failed(
                    AuthenticationError(
                        f"{where} refused the key",
                        why=f"HTTP status {response.status}",
                        hint="check LKMONGO_LLM_API_KEY",
                    )
                )
            if response.status != 200:
                said = f"{where} answers, and does not list its models (HTTP status {response.status})"
                return warn(said, "check LKMONGO_LLM_BASE_URL; it often ends in /v1")
            names = await _model_names(response)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise UnreachableError(
            f"{where} cannot be reached",
            why=reason(error, PATIENCE),
            hint="start the language model's server, or correct LKMONGO_LLM_BASE_URL",
        ) from error
    said = f"{settings.llm} at {where}"
    if not names:
        return ok(f"{said}, which does not say what models it has")
    if missing := [name for name in settings.llm.split(",") if name not in names]:
        known = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        return warn(f"{where} does not list {missing[0]}", f"set LKMONGO_LLM to one that it has: {known}")
    return ok(said)


async def _model_names(response: aiohttp.ClientResponse) -> list[str]:
    """The models of an OpenAI-compatible list; empty where it cannot be read or is empty."""
    try:
        body: Any = await response.json(content_type=None)
        return [str(each["id"]) for each in body["data"]]
    except (ValueError, LookupError, TypeError):
        return []
