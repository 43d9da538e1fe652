"""What every tool does around its work: a deadline, and a sentence of ours for whatever goes wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from livekit.agents import RunContext, StopResponse, ToolError

from lkmongo.confidential import REFUSAL
from lkmongo.errors import InvalidIdError, InvalidTextError, LkmongoError, NotFoundError, SecretError

logger = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")

READ_DEADLINE = 1.0
"""Seconds that a look-up of the caller's data may take in a turn: half of one for MongoDB, the rest a busy machine."""
CHANGE_DEADLINE = 2.0
"""Seconds that a change of what is remembered may take: half of one for MongoDB, the rest for a slow disk."""
SEARCH_DEADLINE = 3.0
"""Seconds that a search of the knowledge base may take."""


async def within(deadline: float, work: Awaitable[T], doing: str) -> T:
    """Wait `deadline` seconds for `work`; whatever goes wrong becomes a sentence that can be read out, and the log says why.

    The text of an exception would end in the report and before the model, so only sentences of ours leave here.

    Raises:
        ToolError: it took too long or failed; the message says so to the caller.
    """
    try:
        async with asyncio.timeout(deadline):
            return await work
    except TimeoutError as error:
        logger.warning("a tool could not %s within %g s", doing, deadline)
        raise ToolError(f"I could not {doing} just now; it took too long.") from error
    except (ToolError, StopResponse):
        raise
    except SecretError as error:
        raise ToolError(REFUSAL) from error
    except (InvalidTextError, InvalidIdError, NotFoundError) as error:
        raise ToolError(as_sentence(error)) from error
    except LkmongoError as error:
        logger.warning("a tool could not %s: %s (%s)", doing, error.message, error.why)
        raise ToolError(f"I could not {doing} just now.") from error
    except Exception as error:
        logger.exception("a tool could not %s", doing)
        raise ToolError(f"I could not {doing} just now.") from error


def at_once(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call what needs no waiting. Raises as `within` does when an argument cannot be right."""
    try:
        return function(*arguments, **named)
    except (InvalidTextError, InvalidIdError) as error:
        raise ToolError(as_sentence(error)) from error


def as_sentence(error: LkmongoError) -> str:
    """What is wrong, as one sentence."""
    return f"{error.message[:1].upper()}{error.message[1:]}."


def finish_despite_interruption(context: RunContext[Any]) -> None:
    """Keep the caller from cutting off a change half made."""
    try:
        context.disallow_interruptions()
    except RuntimeError:
        logger.debug("the caller has interrupted already; the change is made all the same")
