"""Whether this machine can hear and speak by itself. Nothing heavy is imported here."""

from __future__ import annotations

import functools
import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path

HOW_TO_INSTALL = 'pip install "lkmongo[voice]"'
_MODEL = Path("assets", "tiny-en")
_GLIBC = {"x86_64": (2, 34), "aarch64": (2, 31)}
"""The oldest glibc that the recogniser's wheels run on."""
_MACOS = 15


@functools.cache
def why_not_local() -> str | None:
    """Why speech does not run on this machine, as a clause; None if it does."""
    missing = _what_is_missing()
    return missing and (why_not_on_this_platform() or missing)


def why_not_on_this_platform() -> str | None:
    """Why the packages of local speech cannot be installed here; None if they can."""
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    if sys.platform == "darwin":
        return _why_not_on_this_mac(machine)
    if sys.platform != "linux" or machine not in _GLIBC:
        return f"local speech runs on Linux and macOS, x86_64 or ARM of 64 bits, and this is {sys.platform} {machine}"
    needed, found = _GLIBC[machine], _glibc()
    if found is not None and tuple(map(int, found.split(".")[:2])) >= needed:
        return None
    this = f"this is {found}" if found else "this Linux has another C library"
    return f"local speech needs glibc {'.'.join(map(str, needed))} or later, and {this}"


def _why_not_on_this_mac(machine: str) -> str | None:
    if machine != "aarch64":
        return "local speech runs on Macs with Apple silicon, and this one has another processor"
    version = platform.mac_ver()[0]
    if int(version.partition(".")[0] or 0) < _MACOS:
        return f"local speech needs macOS {_MACOS} or later, and this is {version or 'older'}"
    return None


def is_english(language: str | None) -> bool:
    """Whether local speech serves this language, such as `en-GB`; None is whichever there is."""
    return not language or language.replace("_", "-").partition("-")[0].lower() in {"en", "eng", "english"}


def _what_is_missing() -> str | None:
    recogniser = find_spec("moonshine_voice")
    folders = list(recogniser.submodule_search_locations or ()) if recogniser else []
    if not folders or find_spec("hibari") is None:
        return "the extra voice, which hears and speaks on this machine, is not installed"
    if not any((Path(folder) / _MODEL).is_dir() for folder in folders):
        return "the recogniser has no model: moonshine-voice 0.1.0 brings it, and later ones do not"
    return None


def _glibc() -> str | None:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):  # another C library
        return None
    return version if name == "glibc" and version[:1].isdigit() else None
