"""Choosing an audio device by number or name, and the errors when there is none."""

from __future__ import annotations

import pytest

from lkmongo.console import devices
from lkmongo.console.devices import AudioError, NoDeviceError, choose_device, parse_devices
from lkmongo.errors import ExitCode, MissingExtraError, UsageError


def device(name, inputs=0, outputs=0):
    return {"name": name, "max_input_channels": inputs, "max_output_channels": outputs, "hostapi": 0}


DEVICES = parse_devices(
    {
        "first": [3, 1],
        "devices": [
            device("USB Headset", 1, 2),
            device("Built-in Output", 0, 2),
            device("USB Headset Mono", 1),
            device("Built-in Microphone", 2),
        ],
    }
)


@pytest.mark.parametrize(
    ("kind", "wanted", "index"),
    [
        ("input", None, 3),
        ("output", None, 1),
        ("input", "2", 2),
        ("input", "usb headset", 0),  # the whole name goes before a part of one
        ("input", "mono", 2),
        ("output", "headset", 0),  # the other headset cannot be heard with
    ],
)
def test_a_device_is_found_by_number_by_name_or_by_default(kind, wanted, index):
    assert choose_device(DEVICES, kind, wanted).index == index


@pytest.mark.parametrize("wanted", ["1", "9", "webcam"])
def test_an_unknown_device_is_refused_with_a_list(wanted):
    with pytest.raises(NoDeviceError) as error:
        choose_device(DEVICES, "input", wanted)
    assert error.value.exit_code is ExitCode.NOT_FOUND
    assert error.value.hint == "there are: 0 USB Headset, 2 USB Headset Mono, 3 Built-in Microphone"


def test_an_ambiguous_name_is_refused_with_the_numbers():
    with pytest.raises(UsageError) as error:
        choose_device(DEVICES, "input", "usb")
    assert error.value.hint == "choose one by its number: 0 USB Headset, 2 USB Headset Mono"


def test_without_a_default_the_first_device_is_chosen():
    speakers = parse_devices({"first": [-1, -1], "devices": [device("speaker", 0, 2)]})
    assert choose_device(speakers, "output", None).name == "speaker"
    with pytest.raises(AudioError, match="there is no microphone"):
        choose_device(speakers, "input", None)


async def test_a_missing_library_is_named_and_what_to_install(monkeypatch):
    monkeypatch.setattr(devices, "_ASK", "raise OSError('PortAudio library not found')")
    with pytest.raises(AudioError, match="PortAudio is not installed") as error:
        await devices.list_devices()
    assert "libportaudio2" in error.value.hint


async def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(devices, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError) as error:
        await devices.list_devices()
    assert error.value.hint == 'pip install "lkmongo[audio]"'


async def test_a_driver_that_crashes_or_hangs_is_an_error(monkeypatch):
    monkeypatch.setattr(devices, "_ASK", "import sys; sys.exit('the driver is upset')")
    with pytest.raises(AudioError) as error:
        await devices.list_devices()
    assert error.value.why == "the driver is upset"
    monkeypatch.setattr(devices, "_ASK", "import time; time.sleep(60)")
    monkeypatch.setattr(devices, "DEADLINE", 0.1)
    with pytest.raises(AudioError, match="did not list their devices within"):
        await devices.list_devices()
