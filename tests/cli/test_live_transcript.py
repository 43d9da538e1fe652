"""The line that changes while somebody speaks: what is final takes its place, on a terminal and elsewhere."""

from __future__ import annotations

import io
import sys

import pytest
from prompt_toolkit.utils import get_cwidth

from lkmongo.cli.console import LiveTranscript, fit_to_width
from lkmongo.cli.output import Format, Output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """What is to be seen, a row each: a carriage return goes to its beginning, and then it is erased."""
        return [row.rpartition("\r\x1b[K")[2] for row in self.getvalue().split("\n")]


def terminal(monkeypatch, term="xterm") -> Terminal:
    """Let a terminal be what the program writes to; not a fixture, for pytest changes sys.stdout after those."""
    stream = Terminal()
    for name, value in {"NO_COLOR": "1", "TERM": term, "COLUMNS": "40"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def message(role, text, **more):
    return {"type": "message", "role": role, "text": text, **more}


def talk(transcript):
    """A question, a tool and an answer that is interrupted; what is seen after each step."""
    transcript.live("state", "listening")
    yield
    transcript.live("user", "how")
    transcript.live("user", "how long")
    yield
    transcript.note("by the way")
    yield
    transcript.event(message("user", "How long?"))
    transcript.live("state", "thinking")
    yield
    transcript.event({"type": "tool_call", "name": "search", "arguments": {"query": "x"}})
    transcript.live("state", "speaking")
    transcript.live("assistant", "Two")
    yield
    transcript.event(message("assistant", "Two years", interrupted=True))
    transcript.live("state", "listening")
    yield
    transcript.end()
    yield


def test_what_is_final_takes_the_place_of_what_was_not(monkeypatch):
    screen = terminal(monkeypatch)
    seen = [screen.lines() for _ in talk(LiveTranscript(Output(Format.TABLE)))]
    assert [rows[-1] for rows in seen] == [
        "(listening: speak, Enter to type, Ctrl-",
        "you> how long",
        "you> how long",
        "(thinking)",
        "agent> Two",
        "(listening: speak, Enter to type, Ctrl-",
        "",
    ]
    assert seen[-1] == [
        "by the way",
        "you> How long?",
        "  [search(query='x')]",
        "agent> Two years [interrupted]",
        "",
    ]


@pytest.mark.parametrize("dumb", [True, False], ids=["a dumb terminal", "a pipe"])
def test_where_no_cursor_moves_only_what_is_final_is_shown(monkeypatch, dumb):
    screen = terminal(monkeypatch, "dumb" if dumb else "xterm")
    screen.isatty = lambda: dumb
    for _ in talk(LiveTranscript(Output(Format.TABLE))):
        pass
    assert "\r" not in screen.getvalue()
    assert screen.lines()[1:3] == ["you> How long?", "  [search(query='x')]"]


@pytest.mark.parametrize("text", ["you> " + "word " * 30, "agent> " + "語" * 60, "agent> \x1b[2J\n" + "x" * 99])
def test_a_long_line_shows_its_end_and_never_more_than_a_row(text):
    line = fit_to_width(text, 39)
    assert get_cwidth(line) <= 39
    assert line.startswith(f"{text.partition('>')[0]}> ...")
    assert line.endswith(text[-3:])
    assert "\x1b" not in line
