"""The built-in responder: what answers when there is no language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lkmongo.agent.responder.llm import Responder

__all__ = ["Responder"]


def __getattr__(name: str) -> Any:
    """Import the LiveKit part only when it is asked for: the grammar needs none of it."""
    if name == "Responder":
        from lkmongo.agent.responder.llm import Responder

        return Responder
    raise AttributeError(name)
