"""The microphones and loudspeakers of this machine: listing and choosing them."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from lkmongo.errors import LkmongoError, NotFoundError, UsageError
from lkmongo.imports import extra

Kind = Literal["input", "output"]

DEADLINE = 10.0
"""Seconds that the drivers may take to list the devices."""
_WORDS = {"input": ("microphone", "--input-device"), "output": ("loudspeaker", "--output-device")}
_ASK = """
import json, sounddevice
first = [int(number) for number in sounddevice.default.device]
print(json.dumps({"first": first, "devices": [dict(device) for device in sounddevice.query_devices()]}))
"""


class AudioError(LkmongoError):
    """The sound devices of this machine cannot be used."""

    code = "audio"


class NoDeviceError(NotFoundError):
    """There is no such sound device."""

    code = "no_device"


@dataclass(frozen=True, slots=True)
class Device:
    """A sound device; PortAudio's index is valid until a device is plugged in or out."""

    index: int
    name: str
    inputs: int
    outputs: int
    default_for: tuple[Kind, ...] = ()

    def channels(self, kind: Kind) -> int:
        return self.inputs if kind == "input" else self.outputs


@dataclass(frozen=True, slots=True)
class DevicePair:
    microphone: Device
    loudspeaker: Device


async def list_devices() -> list[Device]:
    """Ask PortAudio in a subprocess, because drivers print, hang and crash.

    Raises:
        AudioError: the library is missing, or it does not answer.
        MissingExtraError: the Python package is missing.
    """
    with extra("audio", "talking aloud"):
        if find_spec("sounddevice") is None:  # not imported: that loads the library and its drivers
            raise ModuleNotFoundError("No module named 'sounddevice'")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _ASK,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DEADLINE):
            listed, complaint = await process.communicate()
    except TimeoutError as error:
        raise AudioError(f"the audio drivers did not list their devices within {DEADLINE:.0f} seconds") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = (complaint.decode(errors="replace").strip().splitlines() or ["it ended without a word"])[-1][:200]
        if "PortAudio library not found" in last:
            raise AudioError(
                "the library PortAudio is not installed",
                hint="apt install libportaudio2, dnf install portaudio, or brew install portaudio",
            )
        raise AudioError("the audio devices cannot be listed", why=last)
    return parse_devices(json.loads(listed))


def parse_devices(answer: dict[str, Any]) -> list[Device]:
    """Parse the answer of the subprocess."""
    kinds: tuple[Kind, Kind] = ("input", "output")
    return [
        Device(
            index,
            device["name"],
            device["max_input_channels"],
            device["max_output_channels"],
            tuple(kind for kind, first in zip(kinds, answer["first"], strict=True) if first == index),
        )
        for index, device in enumerate(answer["devices"])
    ]


def choose_device(devices: list[Device], kind: Kind, wanted: str | None) -> Device:
    """Choose a device.

    Args:
        devices: the available devices.
        kind: which kind to choose.
        wanted: its index or a part of its name, in any case; None for the system's default.

    Raises:
        AudioError: there is no device of this kind.
        NoDeviceError: none has that index or name.
        UsageError: the name matches several.
    """
    word, flag = _WORDS[kind]
    able = [device for device in devices if device.channels(kind) > 0]
    if not able:
        raise AudioError(
            f"there is no {word}", hint="connect one, and see what lkmongo agent console --list-devices finds"
        )
    if wanted is None:
        return next((device for device in able if kind in device.default_for), able[0])
    names = ", ".join(f"{device.index} {device.name}" for device in able)
    if wanted.strip().isdecimal():
        found = [device for device in able if device.index == int(wanted)]
    else:
        found = [device for device in able if device.name.casefold() == wanted.strip().casefold()] or [
            device for device in able if wanted.strip().casefold() in device.name.casefold()
        ]
    if not found:
        raise NoDeviceError(f"{flag}: there is no {word} {wanted!r}", hint=f"there are: {names}")
    if len(found) > 1:
        raise UsageError(
            f"{flag}: {wanted!r} matches {len(found)} devices",
            hint=f"choose one by its number: {', '.join(f'{device.index} {device.name}' for device in found)}",
        )
    return found[0]
