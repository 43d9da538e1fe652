"""The terminal of `lkmongo agent console`: where lines come from, and how a typed or spoken conversation is shown."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from prompt_toolkit.utils import get_cwidth

from lkmongo.cli.command import Cli
from lkmongo.cli.output import Output, is_terminal, styled, visible
from lkmongo.console.devices import AudioError, Device, DevicePair, Kind, choose_device, list_devices
from lkmongo.console.lines import Line, Listener, OpenSound, Outcome, Switch, no_lines, piped, typed, typed_or_spoken
from lkmongo.console.lines import script as lines_of
from lkmongo.console.text import NoSpeechError, converse
from lkmongo.errors import ExitCode, LkmongoError, MissingExtraError, UsageError
from lkmongo.model import UserScope
from lkmongo.settings import Settings

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from lkmongo.console.sound import Sound

_NAMES = {"user": "you> ", "assistant": "agent> "}
_STATES = {
    "initializing": "(getting ready)",
    "idle": "(listening)",
    "listening": "(listening)",
    "thinking": "(thinking)",
    "speaking": "(speaking)",
}
_KEYS = {"(listening)": "(listening: speak, Enter to type, Ctrl-D to hang up)"}


class Transcript:
    """Shows the conversation to a person: messages and tool calls."""

    def __init__(self, output: Output, *, echo: bool) -> None:
        """`echo` also shows the person's messages, if they are not visible as typed input."""
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
    """A transcript with a live last line for partial transcripts, which final messages replace.

    Terminals that cannot move the cursor show final messages only.
    """

    def __init__(self, output: Output, *, has_keys: bool = True) -> None:
        """With `has_keys` the line tells which keys there are."""
        self._output = output
        self._keys = _KEYS if has_keys else {}
        self._final: Callable[[dict[str, Any]], None] = Transcript(output, echo=True)
        self._dim = ("\x1b[2m", "\x1b[0m") if styled(sys.stdout) else ("", "")
        self._moves = is_terminal(sys.stdout) and os.environ.get("TERM") != "dumb"
        self._said = {"user": "", "assistant": ""}
        self._state = ""
        self._drawn = ""

    def event(self, event: dict[str, Any]) -> None:
        """Show a final event."""
        if event["type"] == "message":
            self._said[event["role"]] = ""
        self._redraw(lambda: self._final(event))

    def live(self, who: str, text: str) -> None:
        """Show the partial transcript of "user" or "assistant", or the agent's "state"."""
        if who == "user_state":
            return
        if who == "state":
            state = _STATES.get(text, "")
            self._state = self._keys.get(state, state)
            if text != "speaking":
                self._said["assistant"] = ""
            if not text:
                self._said["user"] = ""
        else:
            self._said[who] = text
        self._redraw()

    def note(self, text: str) -> None:
        """Show a note on stderr."""
        self._redraw(lambda: self._output.note(text))

    def warn(self, text: str) -> None:
        """Show a warning on stderr."""
        self._redraw(lambda: self._output.warn(text))

    def refuse(self, error: LkmongoError) -> None:
        """Show why a line was refused."""
        self._redraw(lambda: self._output.error(error))

    def end(self) -> None:
        """Remove the live line."""
        self._said = {"user": "", "assistant": ""}
        self._state = ""
        self._redraw()

    def _redraw(self, show: Callable[[], None] | None = None) -> None:
        """Call `show` in place of the live line, and draw the live line below it."""
        if not self._moves:
            if show:
                show()
            return
        who = "user" if self._said["user"] else "assistant"
        said = f"{_NAMES[who]}{self._said[who]}" if self._said[who] else self._state
        line = fit_to_width(said, shutil.get_terminal_size().columns - 1)
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


def fit_to_width(text: str, columns: int) -> str:
    """Shorten `text` to one line of `columns`; of a speaker's words the end is kept."""
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


class NoVoiceError(UsageError):
    """This console cannot hold a spoken conversation."""

    code = "no_voice"


class Console:
    """The conversation of one `lkmongo agent console` command."""

    def __init__(self, cli: Cli, scope: UserScope, *, guest: bool, script: Path | None) -> None:
        self._cli = cli
        self._scope = scope
        self._guest = guest
        self._script = script
        at_terminal = is_terminal(sys.stdin) and is_terminal(sys.stdout) and not cli.output.is_json
        self._interactive = at_terminal and script is None

    async def in_text(self) -> None:
        """Talk in text; errors of the conversation are raised at its end."""
        output = self._cli.output
        if self._interactive:
            output.note("Type what you would say; Ctrl-D ends the call.")
        show = output.event if output.is_json else Transcript(output, echo=not self._interactive)
        listener = Listener(event=show, note=output.note, warn=output.warn, refuse=output.error)
        self._raise_failure(await self._converse(self._lines(aloud=False), listener))

    async def aloud(self, microphone: str | None, loudspeaker: str | None) -> None:
        """Talk aloud; if that is impossible, say why, and at a terminal continue in text.

        The devices are given by number or part of their name; None is the system's default.
        """
        import prompt_toolkit  # noqa: F401 - importing it later would interrupt the sound for half a second

        try:
            open_sound = await choose_sound(self._cli.settings, microphone, loudspeaker)
            with self._shown_aloud() as listener:
                outcome = await self._converse(self._lines(aloud=True), listener, open_sound)
        except (AudioError, NoSpeechError, NoVoiceError) as error:
            outcome = Outcome(session_id="", failure=error)
        if outcome.failure and self._interactive:
            self._cli.output.error(outcome.failure)
            self._cli.output.note("Continuing in text.")
            await self.in_text()
            return
        self._raise_failure(outcome)

    async def by_wav(self, files: Sequence[Path], record: Path | None) -> None:
        """Say WAV files, record what the agent says, and hang up; errors of the conversation are raised at its end."""
        from lkmongo.console.wav import Wav, recording
        from lkmongo.console.wav_call import WavCall

        self._interactive = False
        wavs = [Wav.read(file) for file in files]
        if missing := _no_speech(self._cli.settings):
            raise missing[0]
        made = None
        try:
            with ExitStack() as stack:
                made = stack.enter_context(recording(record, wavs)) if record else None
                call = WavCall(wavs, stack.enter_context(self._shown_aloud()), made)
                outcome = await self._converse(call.lines(), call.listener, call.open)
        finally:
            if made and made.is_finished:
                self._cli.output.note(f"{record} holds what the agent said: {made.seconds:.1f} s, with the pauses")
        self._raise_failure(outcome)
        call.check_answers()

    @contextmanager
    def _shown_aloud(self) -> Iterator[Listener]:
        output = self._cli.output
        if output.is_json:
            yield Listener(event=output.event, note=output.note, warn=output.warn, refuse=output.error)
            return
        transcript = LiveTranscript(output, has_keys=self._interactive)
        try:
            yield Listener(
                event=transcript.event,
                note=transcript.note,
                warn=transcript.warn,
                refuse=transcript.refuse,
                live=transcript.live,
            )
        finally:
            transcript.end()

    async def _converse(
        self, lines: AsyncIterator[Line | Switch], listener: Listener, open_sound: OpenSound | None = None
    ) -> Outcome:
        settings = self._cli.settings
        return await converse(settings, self._scope, lines, listener, guest=self._guest, aloud=open_sound)

    def _lines(self, *, aloud: bool) -> AsyncIterator[Line | Switch]:
        if self._script is not None:
            return lines_of(self._script)
        if self._interactive:
            return typed_or_spoken("type> ") if aloud else typed("you> ")
        if sys.stdin is None:
            return no_lines()  # closed: descriptor 0 may be any file now
        return piped(0)

    def _raise_failure(self, outcome: Outcome) -> None:
        if outcome.failure:
            raise outcome.failure
        if outcome.unanswered and not self._interactive:
            raise LkmongoError(
                f"the language model did not answer {outcome.unanswered} times",
                hint="check LKMONGO_LLM_BASE_URL, LKMONGO_LLM and their key",
            )
        if outcome.refused and not self._interactive:
            raise typer.Exit(ExitCode.USAGE)


async def show_devices(cli: Cli) -> None:
    devices = await list_devices()
    rows = [
        {
            "index": device.index,
            "name": device.name,
            "inputs": device.inputs,
            "outputs": device.outputs,
            "default": ", ".join(device.default_for),
        }
        for device in devices
    ]
    cli.output.rows(("index", "name", "inputs", "outputs", "default"), rows, empty="There are no audio devices.")


async def choose_sound(settings: Settings, microphone: str | None, loudspeaker: str | None) -> OpenSound:
    """Choose microphone and loudspeaker, and check that speech models are set up.

    Raises:
        NoDeviceError: there is no such device.
        NoVoiceError: something is missing; the message lists everything that is.
        UsageError: a device's name matches several.
    """
    missing: list[LkmongoError] = []
    found: list[Device] = []
    sides: tuple[tuple[Kind, str | None], ...] = (("input", microphone), ("output", loudspeaker))
    try:
        devices = await list_devices()
    except (AudioError, MissingExtraError) as error:
        missing.append(error)
    else:
        for kind, wanted in sides:
            try:
                found.append(choose_device(devices, kind, wanted))
            except AudioError as error:
                missing.append(error)
    missing += _no_speech(settings)
    if missing:
        whys = [f"{error.message} ({error.why})" if error.why else error.message for error in missing]
        hints = [*dict.fromkeys(error.hint for error in missing if error.hint), "or leave out --voice to talk in text"]
        raise NoVoiceError("this console cannot talk aloud", why="; ".join(whys), hint="; ".join(hints))
    return functools.partial(_open_devices, DevicePair(*found))


def _no_speech(settings: Settings) -> list[LkmongoError]:
    from lkmongo.speech.choose import why_no_speech

    try:
        why = why_no_speech(settings)
    except UsageError as error:
        return [error]
    return [NoSpeechError(settings, why)] if why else []


def _open_devices(pair: DevicePair) -> AbstractAsyncContextManager[Sound]:
    from lkmongo.console.sound import open_sound

    return open_sound(pair)
