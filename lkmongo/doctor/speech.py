"""The check of speech: who hears and who speaks, whether they can, and for which tenants they cannot."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

from lkmongo.doctor.check import Finding, ok, skip, warn
from lkmongo.doctor.services import NAMED, served_models
from lkmongo.speech.local import HOW_TO_INSTALL, why_not_on_this_platform

if TYPE_CHECKING:
    from lkmongo.settings import Settings
    from lkmongo.speech.servers import SpeechServer

_MODELS = "a LiveKit Cloud project, LKMONGO_STT_BASE_URL and LKMONGO_TTS_BASE_URL"


async def speech(settings: Settings) -> Finding:
    """Say which speech calls have; the engines of this machine are loaded, servers are asked for their models.

    Raises:
        SettingsError: LKMONGO_SPEECH asks for what is not set up, or a server's model is not named.
        MissingExtraError: the engines of this machine are asked for, and cannot run here.
        AuthenticationError: a server refused the key.
        UnreachableError: a server does not answer.
    """
    choose = await asyncio.to_thread(importlib.import_module, "lkmongo.speech.choose")
    from lkmongo.speech.servers import servers_of

    why = choose.why_no_speech(settings)
    if why is not None:
        if settings.speech == "off":
            return skip(f"calls are in writing: {why}")
        local = None if why_not_on_this_platform() else HOW_TO_INSTALL
        return skip(f"calls are in writing, because {why}", f"{f'{local}, or ' if local else ''}set {_MODELS}")
    facts = list(_in_writing(settings))
    for server in servers_of(settings):
        if trouble := await _trouble(server):
            return warn(f"{server.part}: {trouble}", f"check {server.variable} and {server.variable}_BASE_URL", facts)
    await asyncio.to_thread(choose.load_engines, settings)
    return ok(choose.describe(settings), *facts)


def _in_writing(settings: Settings) -> list[str]:
    """A line for each tenant whose callers cannot talk."""
    from lkmongo.speech.choose import why_no_speech

    found = []
    for tenant_id, policy in settings.tenant_policies().named.items():
        if why := why_no_speech(settings, policy):
            found.append(f"{tenant_id}: in writing, because {why}")
    return found


async def _trouble(server: SpeechServer) -> str | None:
    status, names = await served_models(
        server.url, server.key, f"{server.variable}_API_KEY", f"{server.variable}_BASE_URL", "the server for speech"
    )
    if status != 200:
        return f"{server.url} answers, and does not list its models (HTTP status {status})"
    if names and server.model not in names:
        return f"{server.url} does not list {server.model}, but {', '.join(names[:NAMED])}"
    return None
