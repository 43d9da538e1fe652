"""Which speech the doctor finds, and what to do about it."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from lkmongo.doctor import speech as checked
from lkmongo.doctor.check import Status
from lkmongo.doctor.examine import examine
from lkmongo.errors import ExitCode
from lkmongo.settings import Settings
from lkmongo.speech import choose
from lkmongo.speech.local import why_not_local
from tests.openai_server import create_app

KEY = "sk-a-key-that-nobody-may-see"


async def look_at(environ):
    settings, problems = Settings.load_what_fits(environ)
    (check,) = await examine(settings, problems, only=["speech"])
    return check


async def test_speech_that_is_off_is_no_trouble():
    check = await look_at({"LKMONGO_SPEECH": "off"})
    assert (check.status, check.hint) == (Status.SKIP, None)
    assert "LKMONGO_SPEECH is off" in check.detail


@pytest.mark.parametrize("platform", [None, "local speech needs glibc 2.34 or later, and this is 2.31"])
async def test_without_any_speech_calls_are_in_writing_and_that_has_a_reason_and_a_way_out(monkeypatch, platform):
    why = platform or "the extra voice, which hears and speaks on this machine, is not installed"
    monkeypatch.setattr(choose, "why_not_local", lambda: why)
    monkeypatch.setattr(checked, "why_not_on_this_platform", lambda: platform)
    check = await look_at({})
    assert check.status is Status.SKIP
    assert why in check.detail
    assert ("lkmongo[voice]" in check.hint) == (platform is None)
    assert "LKMONGO_STT_BASE_URL" in check.hint


async def test_what_is_asked_for_and_cannot_be_fails(monkeypatch):
    monkeypatch.setattr(choose, "why_not_local", lambda: "this is a toaster")
    check = await look_at({"LKMONGO_SPEECH": "local"})
    assert check.status is Status.FAIL
    assert "this is a toaster" in check.detail


@pytest.mark.skipif(why_not_local() is not None, reason=f"no speech on this machine: {why_not_local()}")
async def test_the_engines_of_this_machine_are_loaded_and_who_cannot_talk_to_them_is_named(tmp_path):
    tenants = tmp_path / "tenants.yaml"
    tenants.write_text("tenants:\n  hof:\n    language: de\n  inn:\n    language: en-GB\n", encoding="utf-8")
    check = await look_at({"LKMONGO_TENANTS": str(tenants)})
    assert (check.status, check.detail) == (Status.OK, "the engines on this machine (English)")
    (fact,) = check.facts
    assert fact.startswith("hof: in writing, because")


def servers(port, **more):
    url = f"http://127.0.0.1:{port}/v1"
    named = {"LKMONGO_STT": "small", "LKMONGO_TTS": "kokoro:af_heart"}
    return {"LKMONGO_STT_BASE_URL": url, "LKMONGO_TTS_BASE_URL": url} | named | more


async def test_servers_of_ones_own_are_asked_for_their_models():
    async with TestServer(create_app()) as server:
        check = await look_at(servers(server.port))
    assert check.status is Status.OK
    assert check.detail.startswith("small at http://127.0.0.1")
    assert "kokoro at http://127.0.0.1" in check.detail


@pytest.mark.parametrize(
    ("status", "models", "found", "exit_code", "said"),
    [
        (200, ["small", "kokoro"], Status.OK, ExitCode.OK, "small at"),
        (200, ["small", "other"], Status.WARN, ExitCode.OK, "does not list kokoro, but small, other"),
        (404, [], Status.WARN, ExitCode.OK, "does not list its models (HTTP status 404)"),
        (401, [], Status.FAIL, ExitCode.AUTHENTICATION, "refused the key"),
    ],
)
async def test_what_a_server_answers_is_told_without_the_key(status, models, found, exit_code, said):
    keys = []

    async def answer(request):
        keys.append(request.headers["Authorization"])
        return web.json_response({"data": [{"id": name} for name in models]}, status=status)

    app = web.Application()
    app.router.add_get("/v1/models", answer)
    async with TestServer(app) as server:
        check = await look_at(servers(server.port, LKMONGO_STT_API_KEY=KEY, LKMONGO_TTS_API_KEY=f"{KEY}-2"))
    assert (check.status, check.exit_code) == (found, exit_code)
    assert said in check.detail
    assert keys[0] == f"Bearer {KEY}"
    assert KEY not in str(check)


async def test_a_server_that_is_away_fails_by_name():
    check = await look_at(servers(unused_port()))
    assert check.status is Status.FAIL
    assert "cannot be reached" in check.detail
    assert "LKMONGO_STT_BASE_URL" in check.hint


async def test_a_server_without_a_model_is_a_setting_that_is_wrong():
    settings, problems = Settings.load_what_fits({"LKMONGO_TTS_BASE_URL": "http://127.0.0.1:9/v1"})
    found = {check.name: check for check in await examine(settings, problems, only=["settings", "speech"])}
    assert "LKMONGO_TTS does not name a model of that server" in found["settings"].detail
    assert (found["speech"].status, found["speech"].detail) == (Status.SKIP, "LKMONGO_TTS is wrong: see settings")
