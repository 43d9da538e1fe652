"""Input lines and output events: what a person types or pipes, read without blocking, and what is shown."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkmongo.errors import InvalidTextError, LkmongoError, UsageError
from lkmongo.model import MAX_CONTENT

if TYPE_CHECKING:
    from livekit.agents import llm

    from lkmongo.console.sound import Sound

Show = Callable[[dict[str, Any]], None]
"""Shows one event: a message, a tool_call or a tool_output."""

OpenSound = Callable[[], "AbstractAsyncContextManager[Sound]"]
"""Opens a microphone and a loudspeaker."""


@dataclass(slots=True)
class Outcome:
    """How the conversation went."""

    session_id: str
    refused: int = 0
    unanswered: int = 0
    stored: bool = True
    failure: LkmongoError | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """Callbacks that show the conversation."""

    event: Show
    note: Callable[[str], None]
    warn: Callable[[str], None]
    refuse: Callable[[InvalidTextError], None]
    live: Callable[[str, str], None] = lambda _who, _text: None
    """Aloud: the partial transcript of "user" or "assistant", or the agent's "state", or the "user_state"."""


def tool_call(item: llm.FunctionCall) -> dict[str, Any]:
    """The event that says which tool is called."""
    return {"type": "tool_call", "name": item.name, "arguments": _arguments(item.arguments)}


def tool_output(item: llm.FunctionCallOutput, name: str) -> dict[str, Any]:
    """The event that says what a tool returned; `name` is the tool's."""
    return {"type": "tool_output", "name": item.name or name, "output": item.output, "is_error": item.is_error}


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of its text, for messages."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def _arguments(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text or "{}")
    except ValueError:
        return {"text": text}
    return parsed if isinstance(parsed, dict) else {"value": parsed}


_MAX_BYTES = 4 * MAX_CONTENT + 16


@dataclass(frozen=True, slots=True)
class Line:
    """One line of input, or why it is refused."""

    number: int
    text: str = ""
    refused: InvalidTextError | None = None


class Switch(Enum):
    """What a person at a terminal does in a spoken conversation, other than typing a line."""

    TYPE = "type"
    TALK = "talk"
    HANG_UP = "hang up"


def parse_line(number: int, raw: bytes, *, cut: bool = False) -> Line:
    """Decode and check one line: UTF-8, at most 4,000 characters.

    Args:
        number: line number from 1, for messages.
        raw: the line without its end.
        cut: whether `raw` is only the beginning of a line that is too long.
    """
    try:
        text = raw.decode("utf-8", errors="ignore" if cut else "strict").strip()
    except UnicodeDecodeError:
        return Line(number, refused=InvalidTextError(f"line {number} is not UTF-8 text; it was skipped"))
    if cut or len(text) > MAX_CONTENT:
        size = f"more than {len(text)}" if cut else str(len(text))
        return Line(
            number,
            refused=InvalidTextError(
                f"line {number} has {size} characters; {MAX_CONTENT} are allowed. It was skipped",
                hint="split it into several lines",
            ),
        )
    return Line(number, text)


def split_lines(chunks: Iterator[bytes]) -> Iterator[Line]:
    """Split chunks of bytes into lines, in bounded memory however long a line is."""
    number, buffer, cut = 1, b"", False
    for chunk in chunks:
        parts = chunk.split(b"\n")
        for index, part in enumerate(parts):
            if not cut:
                buffer += part
                if len(buffer) > _MAX_BYTES:
                    buffer, cut = buffer[:_MAX_BYTES], True
            if index < len(parts) - 1:
                yield parse_line(number, buffer, cut=cut)
                number, buffer, cut = number + 1, b"", False
    if buffer:
        yield parse_line(number, buffer, cut=cut)


async def piped(descriptor: int) -> AsyncIterator[Line]:
    """The lines of a pipe or a file, as they arrive."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Line | None] = asyncio.Queue()

    def put(item: Line | None) -> None:
        loop.call_soon_threadsafe(queue.put_nowait, item)

    def chunks() -> Iterator[bytes]:
        try:
            while chunk := os.read(descriptor, 65_536):
                yield chunk
        except OSError:
            return  # standard input is closed

    def read() -> None:
        try:
            for line in split_lines(chunks()):
                put(line)
            put(None)
        except RuntimeError:
            return  # the event loop is closed

    threading.Thread(target=read, name="lkmongo-input", daemon=True).start()
    while (line := await queue.get()) is not None:
        yield line


async def no_lines() -> AsyncIterator[Line]:
    for line in split_lines(iter(())):
        yield line


def script(path: Path) -> AsyncIterator[Line]:
    """The lines of a file, which is read immediately.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the script {path} cannot be read",
            why=error.strerror,
            hint="name a file with one line of text per turn",
        ) from error

    async def lines() -> AsyncIterator[Line]:
        for line in split_lines(iter([raw])):
            yield line

    return lines()


async def typed(prompt: str, *, leave: str | None = None) -> AsyncIterator[Line]:
    """The lines that a person types, with line editing and history; ends at Ctrl-D.

    Args:
        prompt: shown before each line.
        leave: a key, such as "c-t", that discards what was typed and yields an empty line.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.output.vt100 import Vt100_Output

    # Do not query the cursor position: not every terminal answers, and a single line does not need it.
    output = Vt100_Output.from_pty(sys.stdout)
    output.enable_cpr = False
    keys = KeyBindings()
    if leave:

        @keys.add(leave)
        def _(event: KeyPressEvent) -> None:
            event.app.exit(result="")

    session: PromptSession[str] = PromptSession(history=InMemoryHistory(), output=output, key_bindings=keys)
    number = 0
    while True:
        number += 1
        try:
            # Aloud, a busy machine drops audio frames, which must not end the conversation.
            text = await session.prompt_async(prompt, handle_sigint=False, set_exception_handler=leave is None)
        except EOFError:
            return
        yield parse_line(number, text.encode("utf-8", errors="replace"))


async def typed_or_spoken(prompt: str) -> AsyncIterator[Line | Switch]:
    """The keys of a spoken conversation: Enter or Ctrl-T to type, an empty line to talk again, Ctrl-D to hang up."""
    typing = typed(prompt, leave="c-t")
    while await wait_for_key("\r\n\x14", "\x04"):
        yield Switch.TYPE
        while (line := await anext(typing, None)) is not None and (line.text or line.refused):
            yield line
        if line is None:
            break
        yield Switch.TALK
    yield Switch.HANG_UP


async def wait_for_key(keys: str, end: str) -> bool:
    """Wait, without echo, for one of `keys` or `end`.

    Returns:
        Whether it was one of `keys`; False also if the terminal is gone.
    """
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    result: asyncio.Future[bool] = loop.create_future()

    def read() -> None:
        try:
            typed_now = os.read(descriptor, 1).decode(errors="replace")  # what follows belongs to the prompt
        except OSError:
            typed_now = ""
        if not result.done() and (not typed_now or typed_now in keys + end):
            result.set_result(bool(typed_now) and typed_now in keys)

    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSANOW)
    loop.add_reader(descriptor, read)
    try:
        return await result
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
