"""What a client may ask of the token endpoint: LiveKit's standard request, of which little is the client's to set.

https://docs.livekit.io/frontends/build/authentication/endpoint names the fields, and asks for a 4xx on those that a
client is not allowed to set. An empty value is no value: some clients send all fields.
"""

from __future__ import annotations

import json
import re
from typing import Any

from lkmongo.errors import LkmongoError

_FIELDS = (
    "room_name",
    "participant_name",
    "participant_identity",
    "participant_metadata",
    "participant_attributes",
    "room_config",
)
_WHY = {
    "room_name": "each call has a room of its own",
    "participant_identity": "the server says who is calling",
    "participant_metadata": "the server says who is calling",
    "participant_attributes": "the server says who is calling",
}


class RequestError(LkmongoError):
    """The request cannot be taken."""

    code = "bad_request"
    status = 400


class ForbiddenFieldError(RequestError):
    """A client may not set that."""

    code = "forbidden_field"
    status = 403


def read_token_request(body: bytes, agent_name: str) -> str:
    """Return the participant's name that is asked for, "" for none.

    Args:
        body: what the client sent; nothing is as good as an empty object.
        agent_name: the agent that is sent; a client may name it, and no other.

    Raises:
        RequestError: it is no JSON object, or has a field that there is not.
        ForbiddenFieldError: it sets what a client may not; the message names the field.
    """
    if not body.strip():
        return ""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError("the body is not JSON") from error
    if not isinstance(asked, dict):
        raise RequestError("the body is not a JSON object")
    fields = {_snake_case(name): value for name, value in asked.items()}
    for name, value in fields.items():
        if name not in _FIELDS:
            raise RequestError(f"there is no field {name[:64]!r}", hint=f"these are: {', '.join(_FIELDS)}")
        if name in _WHY and value:
            raise ForbiddenFieldError(f"{name} is not the client's to set: {_WHY[name]}")
    _check_room_config(fields.get("room_config"), agent_name)
    name = fields.get("participant_name") or ""
    if not isinstance(name, str):
        raise RequestError("participant_name is not text")
    return name.strip()


def _check_room_config(config: Any, agent_name: str) -> None:
    """Let through what names the agent that is sent anyway."""
    if not config:
        return
    if not isinstance(config, dict):
        raise RequestError("room_config is not an object")
    for name, value in config.items():
        if value and name != "agents":
            raise _not_to_set(f"room_config.{name}")
    agents = config.get("agents") or []
    if not isinstance(agents, list) or not all(isinstance(agent, dict) for agent in agents):
        raise RequestError("room_config.agents is not a list of objects")
    for number, agent in enumerate(agents):
        _check_agent(agent, f"room_config.agents[{number}]", agent_name)
    if len(agents) > 1:
        raise _not_to_set("room_config.agents[1]")


def _check_agent(agent: dict[str, Any], path: str, agent_name: str) -> None:
    for name, value in agent.items():
        if value and _snake_case(name) != "agent_name":
            raise _not_to_set(f"{path}.{name}")
        if value and value != agent_name:
            raise ForbiddenFieldError(f"{path}.agent_name is not the agent of this server")


def _not_to_set(path: str) -> ForbiddenFieldError:
    return ForbiddenFieldError(f"{path[:100]} is not the client's to set")


def _snake_case(name: str) -> str:
    """The name as LiveKit's protocol has it; JSON of protocol buffers may write it in camelCase."""
    return re.sub(r"(?<=[a-z])[A-Z]", lambda match: f"_{match[0].lower()}", name)
