"""Show a conversation in the terminal: line by line, and aloud as it is spoken."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

from prompt_toolkit.utils import get_cwidth

from lkmongo.cli.output import Output, is_terminal, styled
from lkmongo.cli.text import visible
from lkmongo.errors import LkmongoError

_NAMES = {"user": "you> ", "assistant": "agent> "}
_STATES = {
    "initializing": "(getting ready)",
    "idle": "(listening: speak, Enter to type, Ctrl-D to hang up)",
    "listening": "(listening: speak, Enter to type, Ctrl-D to hang up)",
    "thinking": "(thinking)",
    "speaking": "(speaking)",
}


class Transcript:
    """Shows the conversation to a person: who said what, and tool calls in passing."""

    def __init__(self, output: Output, *, echo: bool) -> None:
        """With `echo` also what the person said, which they have not typed where it is seen."""
        self._output = output
        self._echo = echo
        self._dim = ("\x1b[2m", "\x1b[0m") if styled(sys.stdout) else ("", "")

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event."""
        if event["type"] == "message":
            cut = " [interrupted]" if event.get("interrupted") else ""
            if event["role"] == "assistant" or self._echo:
                self._output.say(f"{_NAMES[event['role']]}{event['text']}{cut}")
        elif event["type"] == "tool_call":
            arguments = ", ".join(f"{key}={value!r}" for key, value in event["arguments"].items())
            text = visible(f"  [{event['name']}({arguments})]", one_line=True)
            sys.stdout.write(f"{self._dim[0]}{text}{self._dim[1]}\n")
            sys.stdout.flush()


class LiveTranscript:
    """A transcript whose last line changes while somebody speaks; what is final takes its place.

    Only what can move a cursor has such a line; elsewhere, what is final is shown and nothing else.
    """

    def __init__(self, output: Output) -> None:
        """Show through `output`."""
        self._output = output
        self._final: Callable[[dict[str, Any]], None] = Transcript(output, echo=True)
        self._dim = ("\x1b[2m", "\x1b[0m") if styled(sys.stdout) else ("", "")
        self._moves = is_terminal(sys.stdout) and os.environ.get("TERM") != "dumb"
        self._said = {"user": "", "assistant": ""}
        self._state = ""
        self._drawn = ""

    def event(self, event: dict[str, Any]) -> None:
        """Show what is final."""
        if event["type"] == "message":
            self._said[event["role"]] = ""
        self._over_it(lambda: self._final(event))

    def live(self, who: str, text: str) -> None:
        """Show what "user" or "assistant" have said so far, or what the agent does now, its "state"."""
        if who == "state":
            self._state = _STATES.get(text, "")
            if text != "speaking":
                self._said["assistant"] = ""
            if not text:
                self._said["user"] = ""
        else:
            self._said[who] = text
        self._over_it()

    def note(self, text: str) -> None:
        """Tell the person something on stderr."""
        self._over_it(lambda: self._output.note(text))

    def warn(self, text: str) -> None:
        """Warn the person on stderr."""
        self._over_it(lambda: self._output.warn(text))

    def refuse(self, error: LkmongoError) -> None:
        """Tell the person what cannot be taken."""
        self._over_it(lambda: self._output.error(error))

    def end(self) -> None:
        """Leave no line that is not final."""
        self._said = {"user": "", "assistant": ""}
        self._state = ""
        self._over_it()

    def _over_it(self, show: Callable[[], None] | None = None) -> None:
        """Put what `show` shows in the place of the line that changes, and that line below it."""
        if not self._moves:
            if show:
                show()
            return
        who = "user" if self._said["user"] else "assistant"
        said = f"{_NAMES[who]}{self._said[who]}" if self._said[who] else self._state
        line = fitting(said, shutil.get_terminal_size().columns - 1)
        if not show and line == self._drawn:
            return
        if self._drawn:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()
        if show:
            show()
        sys.stdout.write(f"{self._dim[0]}{line}{self._dim[1]}" if line else "")
        sys.stdout.flush()
        self._drawn = line


def fitting(text: str, columns: int) -> str:
    """`text` on one line of so many columns: of what somebody says the end, which is what was said last."""
    text = visible(text, one_line=True)
    if get_cwidth(text) <= columns:
        return text
    name, mark, said = text.partition("> ")
    if not mark:
        return text[:columns]
    left = columns - get_cwidth(f"{name}> ...")
    kept = ""
    for char in reversed(said):
        left -= get_cwidth(char)
        if left < 0:
            break
        kept = char + kept
    return f"{name}> ...{kept}"
