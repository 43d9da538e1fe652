"""Custom agents: a class named by LKMONGO_AGENT, or a file of instructions named by LKMONGO_INSTRUCTIONS."""

from __future__ import annotations

from pathlib import Path

from livekit.agents.llm import FunctionTool, RawFunctionTool

from lkmongo.agent.assistant import Assistant
from lkmongo.errors import SettingsError
from lkmongo.imports import import_string
from lkmongo.settings import Settings


def create_assistant(settings: Settings) -> Assistant:
    """Create the agent that the settings name, by default the `Assistant`.

    Raises:
        SettingsError: the class cannot be imported or is no `Assistant`, or the file cannot be read.
    """
    return _agent_class(settings.agent)(instructions=_instructions(settings.instructions))


def unused_tools_warning(agent: type[Assistant]) -> str:
    """A sentence about a subclass's own tools, which the demo responder never calls; empty if it has none."""
    tools = {
        tool.id
        for name in dir(agent)
        if isinstance(tool := getattr(agent, name, None), FunctionTool | RawFunctionTool)
        and not hasattr(Assistant, name)
    }
    if not tools:
        return ""
    return (
        f"The tools that {agent.__name__} adds ({', '.join(sorted(tools))}) are not called: they need a language model."
    )


def check_assistant(settings: Settings) -> type[Assistant]:
    """Check the class and the instructions without creating an agent, which may need a session.

    Raises:
        SettingsError: as in `create_assistant`.
    """
    agent = _agent_class(settings.agent)
    _instructions(settings.instructions)
    return agent


def _agent_class(path: str | None) -> type[Assistant]:
    if path is None:
        return Assistant
    found = import_string("LKMONGO_AGENT", path, "Class")
    if not (isinstance(found, type) and issubclass(found, Assistant)):
        raise SettingsError(
            f"LKMONGO_AGENT names {path}, which is not an agent",
            hint="make it a subclass of lkmongo.agent.assistant.Assistant",
        )
    return found


def _instructions(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        text = path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"LKMONGO_INSTRUCTIONS names {path}, which cannot be read",
            why=error.strerror if isinstance(error, OSError) else "it is not UTF-8 text",
            hint="name a text file with the agent's instructions, or unset it",
        ) from error
    if not text:
        raise SettingsError(
            f"LKMONGO_INSTRUCTIONS names {path}, which is empty",
            hint="write the agent's instructions into it, or unset it",
        )
    return text
