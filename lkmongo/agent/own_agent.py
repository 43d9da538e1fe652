"""One's own agent without a fork: a class named by LKMONGO_AGENT, or a file of instructions."""

from __future__ import annotations

from pathlib import Path

from livekit.agents.llm import FunctionTool, RawFunctionTool

from lkmongo.agent.assistant import Assistant
from lkmongo.errors import SettingsError
from lkmongo.imports import import_string
from lkmongo.settings import Settings


def create_assistant(settings: Settings) -> Assistant:
    """Build the agent that the settings name; the assistant as it is when they name none.

    Raises:
        SettingsError: the class cannot be imported or is no `Assistant`, or the file cannot be read.
    """
    return _agent_class(settings.agent)(instructions=_instructions(settings.instructions))


def own_tools_unused(agent: type[Assistant]) -> str:
    """One sentence on the tools that a subclass has beside the assistant's, which no demo responder calls; or nothing."""
    tools = {
        tool.id
        for name in dir(agent)
        if isinstance(tool := getattr(agent, name, None), FunctionTool | RawFunctionTool)
        and not hasattr(Assistant, name)
    }
    if not tools:
        return ""
    return (
        f"The tools of {agent.__name__} itself ({', '.join(sorted(tools))}) need a language model: they are not called."
    )


def check_assistant(settings: Settings) -> type[Assistant]:
    """See that the class and the instructions are there, without building an agent: that may need a call.

    Raises:
        SettingsError: as `create_assistant` does.
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
            hint="name a text file with what the agent is to do, or unset it",
        ) from error
    if not text:
        raise SettingsError(
            f"LKMONGO_INSTRUCTIONS names {path}, which is empty",
            hint="write into it what the agent is to do, or unset it",
        )
    return text
