"""Hold `lkmongo agent console`: where lines come from, how they are shown, and text where a voice is not to be had."""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lkmongo.agent.console import Listener, NoSpeechError, OpenSound, Outcome, converse
from lkmongo.agent.devices import AudioError, Device, Kind, Pair, choose, list_devices
from lkmongo.agent.lines import Line, Switch, nothing, piped, typed, typed_or_spoken
from lkmongo.agent.lines import script as lines_of
from lkmongo.cli.command import Cli
from lkmongo.cli.conversation import LiveTranscript, Transcript
from lkmongo.cli.output import is_terminal
from lkmongo.errors import ExitCode, LkmongoError, MissingExtraError, SettingsError, UsageError
from lkmongo.model import Identity
from lkmongo.settings import Settings

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from lkmongo.agent.sound import Sound


class NoVoiceError(UsageError):
    """This console cannot talk aloud."""

    code = "no_voice"


class Console:
    """The conversation of one command."""

    def __init__(self, cli: Cli, identity: Identity, *, guest: bool, script: Path | None) -> None:
        """Nothing is opened yet."""
        self._cli = cli
        self._identity = identity
        self._guest = guest
        self._script = script
        person = is_terminal(sys.stdin) and is_terminal(sys.stdout) and not cli.output.is_json
        self._interactive = person and script is None

    async def in_text(self) -> None:
        """Talk in text.

        Raises:
            LkmongoError: the language model did not answer.
            SettingsError: a setting does not fit.
        """
        output = self._cli.output
        if self._interactive:
            output.note("Type what you would say; Ctrl-D ends the call.")
        show = output.event if output.is_json else Transcript(output, echo=not self._interactive)
        listener = Listener(event=show, note=output.note, warn=output.warn, refuse=output.error)
        self._judge(await self._converse(self._lines(aloud=False), listener))

    async def aloud(self, microphone: str | None, loudspeaker: str | None) -> None:
        """Talk aloud; where that cannot be, say why, and talk in text where there is somebody to type.

        Args:
            microphone: its number or a part of its name; None for the system's default.
            loudspeaker: likewise.

        Raises:
            LkmongoError: speech recognition, the voice or the language model failed.
            NoDeviceError: there is no such device as was asked for.
            NoVoiceError: something is missing; it says all that is.
            SettingsError: a setting does not fit.
            UsageError: a device's name fits several.
        """
        import prompt_toolkit  # noqa: F401 - later it would hold up the sound for half a second

        try:
            way = await way_to_talk(self._cli.settings, microphone, loudspeaker)
            outcome = await self._converse_aloud(way)
        except (AudioError, NoVoiceError) as error:
            outcome = Outcome(session_id="", failure=error)
        if outcome.failure and self._interactive:
            self._cli.output.error(outcome.failure)
            self._cli.output.note("Going on in text.")
            await self.in_text()
            return
        self._judge(outcome)

    async def _converse_aloud(self, way: OpenSound) -> Outcome:
        output = self._cli.output
        if output.is_json:
            show = Listener(event=output.event, note=output.note, warn=output.warn, refuse=output.error)
            return await self._converse(self._lines(aloud=True), show, way)
        transcript = LiveTranscript(output)
        try:
            return await self._converse(
                self._lines(aloud=True),
                Listener(
                    event=transcript.event,
                    note=transcript.note,
                    warn=transcript.warn,
                    refuse=transcript.refuse,
                    live=transcript.live,
                ),
                way,
            )
        finally:
            transcript.end()

    async def _converse(
        self, lines: AsyncIterator[Line | Switch], listener: Listener, way: OpenSound | None = None
    ) -> Outcome:
        settings = self._cli.settings
        return await converse(settings, self._identity, lines, listener, guest=self._guest, aloud=way)

    def _lines(self, *, aloud: bool) -> AsyncIterator[Line | Switch]:
        if self._script is not None:
            return lines_of(self._script)
        if self._interactive:
            return typed_or_spoken("type> ") if aloud else typed("you> ")
        if sys.stdin is None:
            return nothing()  # closed: by now descriptor 0 may be anything
        return piped(0)

    def _judge(self, outcome: Outcome) -> None:
        if outcome.failure:
            raise outcome.failure
        if outcome.unanswered and not self._interactive:
            raise LkmongoError(
                f"{outcome.unanswered} times the language model did not answer",
                hint="check LKMONGO_LLM_BASE_URL, LKMONGO_LLM and their key",
            )
        if outcome.refused and not self._interactive:
            raise typer.Exit(ExitCode.USAGE)


async def show_devices(cli: Cli) -> None:
    """List what there is to speak into and to hear with.

    Raises:
        AudioError: PortAudio is missing, or does not answer.
        MissingExtraError: the package that asks it is not installed.
    """
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


async def way_to_talk(settings: Settings, microphone: str | None, loudspeaker: str | None) -> OpenSound:
    """Find what to speak into and to hear with, and see that there is somebody who recognises speech and speaks.

    Raises:
        NoDeviceError: there is no such device as was asked for.
        NoVoiceError: something is missing; it says all that is.
        UsageError: a device's name fits several.
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
                found.append(choose(devices, kind, wanted))
            except AudioError as error:
                missing.append(error)
    missing += _no_speech(settings)
    if missing:
        whys = [f"{error.message} ({error.why})" if error.why else error.message for error in missing]
        hints = [*dict.fromkeys(error.hint for error in missing if error.hint), "or leave out --voice to talk in text"]
        raise NoVoiceError("this console cannot talk aloud", why="; ".join(whys), hint="; ".join(hints))
    return functools.partial(_open, Pair(*found))


def _no_speech(settings: Settings) -> list[LkmongoError]:
    from lkmongo.agent.speech import has_speech

    try:
        return [] if has_speech(settings) else [NoSpeechError()]
    except SettingsError as error:
        return [error]


def _open(pair: Pair) -> AbstractAsyncContextManager[Sound]:
    from lkmongo.agent.sound import open_sound

    return open_sound(pair)
