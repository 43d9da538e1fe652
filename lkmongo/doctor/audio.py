"""Microphones and loudspeakers of this machine."""

from __future__ import annotations

from lkmongo.agent.devices import AudioError, Device, list_devices
from lkmongo.doctor.check import Finding, ok, skip
from lkmongo.errors import MissingExtraError

_TEXT_NEEDS_NONE = "the text console needs none"


async def audio() -> Finding:
    """Which microphones and loudspeakers there are."""
    try:
        devices = await list_devices()
    except (AudioError, MissingExtraError) as error:
        return skip(f"{error.message}{f' ({error.why})' if error.why else ''}; {_TEXT_NEEDS_NONE}")
    return judge_devices(devices)


def judge_devices(devices: list[Device]) -> Finding:
    """Say what there is to speak into and to hear with."""
    inputs = [device.name for device in devices if device.inputs > 0]
    outputs = [device.name for device in devices if device.outputs > 0]
    if not (inputs or outputs):
        return skip(f"there are no audio devices; {_TEXT_NEEDS_NONE}")
    facts = [f"input: {name}" for name in inputs] + [f"output: {name}" for name in outputs]
    return ok(f"{len(inputs)} to speak into, {len(outputs)} to hear with", *facts)
