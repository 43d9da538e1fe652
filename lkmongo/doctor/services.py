"""Checks of what the agent needs: LiveKit, the language model, the embedder, and audio devices."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

from lkmongo.api_secret import HINT, weakness
from lkmongo.console.devices import AudioError, Device, list_devices
from lkmongo.doctor.check import Finding, fail, ok, skip, warn
from lkmongo.errors import (
    AuthenticationError,
    MissingExtraError,
    UnreachableError,
    connection_failure,
)
from lkmongo.livekit_api import PATIENCE, call_livekit
from lkmongo.outbox.webhook import Endpoint

if TYPE_CHECKING:
    import aiohttp

    from lkmongo.settings import Settings


async def livekit(settings: Settings) -> Finding:
    """Make one signed call to LiveKit. Raises as `call_livekit` does."""
    credentials = settings.livekit
    if credentials is None:
        return skip("LIVEKIT_URL is not set: the console works without, calls and tokens need it")
    await call_livekit(credentials)
    summary = f"{credentials.url} answers, and the key {credentials.api_key} is valid"
    if why := weakness(credentials.api_secret.get_secret_value()):
        return warn(f"{summary}; its secret {why}", HINT)
    return ok(summary)


async def embedder(settings: Settings) -> Finding:
    """Which embedder is used; the local model, and the server of LKMONGO_EMBEDDING_BASE_URL, are used once.

    Raises:
        SettingsError: the key, the model, its dimensions or the address is invalid.
        AuthenticationError: the server refused the key.
        EmbeddingError: the local model is not installed, or the server does not embed.
    """
    from lkmongo.embed.atlas import AtlasEmbedder
    from lkmongo.embed.choose import open_embedder

    if settings.embedder_kind == "openai":
        return await _embedding_server(settings)
    async with open_embedder(settings) as chosen:
        if isinstance(chosen, AtlasEmbedder):
            return ok(chosen.description)
        if settings.embedder_kind == "voyage":
            return ok(f"Voyage's {_voyage_model(settings)}, {chosen.dimensions} numbers a vector")
        await chosen.embed(["hello"], kind="query")
        used = f"on this machine: {chosen.model}, {chosen.dimensions} numbers a vector"
        for_nothing = settings.embedding_model or settings.embedding_dimensions
        if for_nothing and not settings.embeddings:
            hint = "set VOYAGE_API_KEY or LKMONGO_EMBEDDING_BASE_URL, else unset it"
            return warn(f"{used}: not what LKMONGO_EMBEDDING_MODEL or LKMONGO_EMBEDDING_DIMENSIONS asks for", hint)
        return ok(used)


async def _embedding_server(settings: Settings) -> Finding:
    """Embed one word there, and compare how long the vector is with what is set or known of the model."""
    from lkmongo.embed.base import RateLimitedError, UnknownDimensionsError
    from lkmongo.embed.choose import openai_embedder

    unknown: UnknownDimensionsError | None = None
    try:
        embedder = openai_embedder(settings)
    except UnknownDimensionsError as error:
        embedder, unknown = openai_embedder(settings, 1), error
    try:
        if unknown:
            number = await embedder.measure()
            return fail(unknown.message, f"set LKMONGO_EMBEDDING_DIMENSIONS={number}: the server's have so many")
        await embedder.warm()  # a server that has to load the model first takes its time
    except RateLimitedError as error:
        return warn(error.message, error.hint or "wait a minute", [error.why or ""])
    finally:
        await embedder.close()
    facts = [f"before a {kind}: {prefix!r}" for kind, prefix in embedder.prefixes.items() if prefix]
    summary = f"{settings.embedding_model} at {settings.embedding_base_url}, {embedder.dimensions} numbers a vector"
    return ok(summary, *facts)


async def voyage(settings: Settings) -> Finding:
    """Embed one word with Voyage.

    Raises:
        AuthenticationError: the key was refused.
        EmbeddingError: any other failure.
    """
    from lkmongo.embed.base import RateLimitedError
    from lkmongo.embed.choose import open_embedder

    if (kind := settings.embedder_kind) != "voyage":
        others = {"local": "on this machine", "atlas": "by MongoDB"}
        where = others.get(kind, f"by {settings.embedding_base_url}")
        unused = f" is set, and LKMONGO_EMBEDDINGS={kind}" if settings.voyage_api_key else " is not set"
        return skip(f"VOYAGE_API_KEY{unused}: text is embedded {where}")
    # Importing the client takes up to 2 s, which must not count as the service's time.
    await asyncio.to_thread(importlib.import_module, "voyageai")
    try:
        async with open_embedder(settings) as chosen:
            await chosen.embed(["hello"], kind="query", deadline=PATIENCE)
    except RateLimitedError as error:
        return warn(f"the key is valid, and {error.message}", error.hint or "wait a minute", [error.why or ""])
    return ok(f"the key is valid for {_voyage_model(settings)}")


def _voyage_model(settings: Settings) -> str:
    from lkmongo.embed.voyage import MODEL

    return settings.embedding_model or MODEL


NAMED = 5
"""Models of a server that a message names."""


async def own_class(settings: Settings, *, own_code: bool) -> Finding:
    """Import the agent's class and read its instructions; without `own_code`, that of LKMONGO_AGENT is left alone.

    Raises:
        SettingsError: LKMONGO_AGENT or LKMONGO_INSTRUCTIONS does not fit.
    """
    if settings.agent and not own_code:
        return skip(
            f"{settings.agent} was not imported, as that runs its code",
            "lkmongo doctor --own-code, if you trust the module",
        )
    loading = await asyncio.to_thread(importlib.import_module, "lkmongo.agent.assistant")  # the SDK takes seconds
    assistant = loading.create_assistant(settings)
    summary = f"{settings.agent or 'the assistant'}, with {len(assistant.tools)} tools"
    return ok(summary, *([f"instructions from {settings.instructions}"] if settings.instructions else []))


async def language_model(settings: Settings) -> Finding:
    """Which language model answers; the server of LKMONGO_LLM_BASE_URL is asked for its models.

    Raises:
        MissingExtraError: the client for LKMONGO_LLM_BASE_URL is not installed.
        SettingsError: the settings of LiveKit Inference are incomplete.
        UnreachableError: nobody answers at LKMONGO_LLM_BASE_URL.
    """
    pipeline = await asyncio.to_thread(importlib.import_module, "lkmongo.agent.models")
    chosen = pipeline.choose_model(settings)
    if chosen is None:
        summary = "the demo responder: there is no language model"
        if settings.livekit is None:
            return ok(summary)
        return warn(
            summary, "set LKMONGO_LLM_BASE_URL; lkmongo agent run takes no calls without it, unless with --demo"
        )
    await chosen.close()
    return await _language_model_server(settings) if settings.llm_base_url else ok(chosen.description)


async def _language_model_server(settings: Settings) -> Finding:
    base = settings.llm_base_url or ""
    where = base.partition("?")[0]
    key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else None
    status, names = await served_models(
        base, key, "LKMONGO_LLM_API_KEY", "LKMONGO_LLM_BASE_URL", "the language model's server"
    )
    if status != 200:
        summary = f"{where} answers, and does not list its models (HTTP status {status})"
        return warn(summary, "check LKMONGO_LLM_BASE_URL; it often ends in /v1")
    summary = f"{settings.llm} at {where}"
    if not names:
        return ok(f"{summary}, which does not say what models it has")
    if missing := [name for name in settings.llm.split(",") if name not in names]:
        known = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
        return warn(f"{where} does not list {missing[0]}", f"set LKMONGO_LLM to one that it has: {known}")
    return ok(summary)


async def served_models(
    base: str, key: str | None, key_variable: str, url_variable: str, server: str
) -> tuple[int, list[str]]:
    """Ask a server with OpenAI's API for its models.

    Args:
        base: its address, up to what `/models` follows.
        key: its key, if it has one.
        key_variable: the setting of the key.
        url_variable: the setting of the address.
        server: what it is, in words.

    Returns:
        The HTTP status, and the models' names; none if they cannot be read.

    Raises:
        AuthenticationError: it refused the key.
        UnreachableError: it does not answer.
    """
    import aiohttp

    where = base.partition("?")[0]
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session,
            session.get(f"{base}/models", headers=headers) as response,
        ):
            if response.status in {401, 403}:
                raise AuthenticationError(
                    f"{where} refused the key", why=f"HTTP status {response.status}", hint=f"check {key_variable}"
                )
            return response.status, await _model_names(response) if response.status == 200 else []
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise UnreachableError(
            f"{where} cannot be reached",
            why=connection_failure(error, PATIENCE),
            hint=f"start {server}, or correct {url_variable}",
        ) from error


async def _model_names(response: aiohttp.ClientResponse) -> list[str]:
    """The models of an OpenAI-compatible list; empty if it cannot be read."""
    try:
        body: Any = await response.json(content_type=None)
        return [str(each["id"]) for each in body["data"]]
    except (ValueError, LookupError, TypeError):
        return []


async def webhook(settings: Settings) -> Finding:
    """Whether anybody answers where the ends of sessions are told; no event is sent."""
    endpoint = Endpoint.of(settings)
    if endpoint is None:
        return skip("LKMONGO_WEBHOOK_URL is not set: nobody is told when a session ends")
    try:
        await endpoint.look(PATIENCE)
    except UnreachableError as error:
        return warn(f"{error.message}: {error.why}", error.hint or "check LKMONGO_WEBHOOK_URL")
    return ok(f"{endpoint.host} answers")


_TEXT_NEEDS_NONE = "the text console needs none"


async def audio() -> Finding:
    try:
        devices = await list_devices()
    except (AudioError, MissingExtraError) as error:
        return skip(f"{error.message}{f' ({error.why})' if error.why else ''}; {_TEXT_NEEDS_NONE}")
    return judge_devices(devices)


def judge_devices(devices: list[Device]) -> Finding:
    inputs = [device.name for device in devices if device.inputs > 0]
    outputs = [device.name for device in devices if device.outputs > 0]
    if not (inputs or outputs):
        return skip(f"there are no audio devices; {_TEXT_NEEDS_NONE}")
    facts = [f"input: {name}" for name in inputs] + [f"output: {name}" for name in outputs]
    return ok(f"{len(inputs)} to speak into, {len(outputs)} to hear with", *facts)
