"""Whether speech runs on this machine, found out without importing it."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import ModuleSpec

import pytest

from lkmongo.speech import local


@pytest.fixture(autouse=True)
def asked_anew():
    local.why_not_local.cache_clear()
    yield
    local.why_not_local.cache_clear()


def on(monkeypatch, system: str, machine: str, *, mac: str = "", libc: str | None = None) -> str | None:
    monkeypatch.setattr(local.sys, "platform", system)
    monkeypatch.setattr(local.platform, "machine", lambda: machine)
    monkeypatch.setattr(local.platform, "mac_ver", lambda: (mac, ("", "", ""), machine))
    monkeypatch.setattr(local.os, "confstr", lambda _: libc)
    return local.why_not_on_this_platform()


@pytest.mark.parametrize(
    ("system", "machine", "version"),
    [
        ("linux", "x86_64", {"libc": "glibc 2.34"}),
        ("linux", "x86_64", {"libc": "glibc 2.41"}),
        ("linux", "aarch64", {"libc": "glibc 2.31"}),
        ("darwin", "arm64", {"mac": "15.0"}),
        ("darwin", "arm64", {"mac": "26.1"}),
    ],
)
def test_platforms_that_have_wheels(monkeypatch, system, machine, version):
    assert on(monkeypatch, system, machine, **version) is None


@pytest.mark.parametrize(
    ("system", "machine", "version", "said"),
    [
        ("linux", "x86_64", {"libc": "glibc 2.31"}, "needs glibc 2.34 or later, and this is 2.31"),
        ("linux", "aarch64", {"libc": "glibc 2.28"}, "needs glibc 2.31 or later, and this is 2.28"),
        ("linux", "x86_64", {"libc": None}, "this Linux has another C library"),
        ("linux", "riscv64", {"libc": "glibc 2.41"}, "this is linux riscv64"),
        ("darwin", "arm64", {"mac": "14.7"}, "needs macOS 15 or later, and this is 14.7"),
        ("darwin", "x86_64", {"mac": "15.1"}, "Apple silicon"),
        ("win32", "AMD64", {}, "this is win32 x86_64"),
    ],
)
def test_platforms_that_have_none(monkeypatch, system, machine, version, said):
    assert said in str(on(monkeypatch, system, machine, **version))


def test_musl_does_not_know_the_question(monkeypatch):
    def unknown(_: str) -> str:
        raise ValueError("unrecognized configuration name")

    on(monkeypatch, "linux", "x86_64")
    monkeypatch.setattr(local.os, "confstr", unknown)
    assert "another C library" in str(local.why_not_on_this_platform())


def package(folder) -> ModuleSpec:
    spec = ModuleSpec("moonshine_voice", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return spec


@pytest.mark.parametrize(
    ("recogniser", "model", "voice", "said"),
    [
        (True, True, True, None),
        (False, True, True, "the extra voice, which hears and speaks on this machine, is not installed"),
        (True, True, False, "the extra voice, which hears and speaks on this machine, is not installed"),
        (True, False, True, "the recogniser has no model: moonshine-voice 0.1.0 brings it, and later ones do not"),
    ],
)
def test_what_is_missing(monkeypatch, tmp_path, recogniser, model, voice, said):
    if model:
        (tmp_path / "assets" / "tiny-en").mkdir(parents=True)
    found = {
        "moonshine_voice": package(tmp_path) if recogniser else None,
        "hibari": package(tmp_path) if voice else None,
    }
    monkeypatch.setattr(local, "find_spec", found.get)
    monkeypatch.setattr(local, "why_not_on_this_platform", lambda: None)
    assert local.why_not_local() == said


def test_where_there_are_no_wheels_that_is_the_reason(monkeypatch):
    monkeypatch.setattr(local, "find_spec", lambda _: None)
    monkeypatch.setattr(local, "why_not_on_this_platform", lambda: "it is too old")
    assert local.why_not_local() == "it is too old"


@pytest.mark.parametrize(
    ("language", "english"),
    [(None, True), ("", True), ("en", True), ("en-GB", True), ("EN_us", True), ("English", True), ("de", False)],
)
def test_english_is_what_local_speech_knows(language, english):
    assert local.is_english(language) is english


def test_nothing_heavy_is_imported_to_find_out():
    code = (
        "import sys; from lkmongo.speech.local import why_not_local; why_not_local(); "
        "print(sorted({'numpy', 'livekit', 'moonshine_voice', 'hibari', 'onnxruntime'} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
