"""Microphones and loudspeakers of this machine."""

from __future__ import annotations

import asyncio
import json
import sys
from importlib.util import find_spec
from typing import Any

from lkmongo.doctor.check import Finding, ok, skip

_LIST_DEVICES = "import json, sounddevice; print(json.dumps([dict(device) for device in sounddevice.query_devices()]))"
_TEXT_NEEDS_NONE = "the text console needs none"


async def audio() -> Finding:
    """Which microphones and loudspeakers there are. Asked in a process of its own: drivers print, hang and crash."""
    if find_spec("sounddevice") is None:
        return skip(f"the package sounddevice is not installed; {_TEXT_NEEDS_NONE}")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _LIST_DEVICES,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        listed, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = (complaint.decode(errors="replace").strip().splitlines() or ["it ended without a word"])[-1]
        return skip(f"audio devices cannot be listed ({last[:200]}); {_TEXT_NEEDS_NONE}")
    return judge_devices(json.loads(listed))


def judge_devices(devices: list[dict[str, Any]]) -> Finding:
    """Say what there is to speak into and to hear with."""
    inputs = [device["name"] for device in devices if device["max_input_channels"] > 0]
    outputs = [device["name"] for device in devices if device["max_output_channels"] > 0]
    if not (inputs or outputs):
        return skip(f"there are no audio devices; {_TEXT_NEEDS_NONE}")
    facts = [f"input: {name}" for name in inputs] + [f"output: {name}" for name in outputs]
    return ok(f"{len(inputs)} to speak into, {len(outputs)} to hear with", *facts)
