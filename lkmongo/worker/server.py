"""The AgentServer as a module variable, where LiveKit's own tools look for it.

`lk agent start|dev|console lkmongo/worker/server.py` and `python -m livekit.agents start` find `server` here, with
settings from the environment and the current folder's dotenv files. `lkmongo agent run` does not use it.
"""

from __future__ import annotations

import logging
from pathlib import Path

from lkmongo.agent.models import import_plugins
from lkmongo.api_secret import check_secret
from lkmongo.dotenv_files import ignored_text, load_dotenv_files
from lkmongo.settings import Settings
from lkmongo.speech.choose import speech_source
from lkmongo.worker.agent_server import create_server
from lkmongo.worker.capacity import Capacity, calls_per_core

_settings = Settings.load(None, *load_dotenv_files(Path.cwd()))
if _settings.ignored and _settings.agent:
    logging.getLogger(__name__).warning(ignored_text(_settings.ignored))
_livekit = _settings.livekit
if _livekit and (_concern := check_secret(_livekit.secrets[0], permitted=_livekit.is_local)):
    logging.getLogger(__name__).warning(_concern)
import_plugins(_settings)
server = create_server(
    _settings, capacity=Capacity.of_this_machine(calls_per_core(speech_source(_settings), shared=False))
)
