"""Speech recognition and a voice from servers with OpenAI's API, by LiveKit's plugin over HTTP."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from aiohttp.test_utils import TestServer
from livekit import rtc
from livekit.agents import AgentSession, APIStatusError, inference

from lkmongo.agent.assistant import Assistant
from lkmongo.errors import AuthenticationError, ExitCode, MissingExtraError, SettingsError, UnreachableError
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from lkmongo.speech.servers import (
    create_stt,
    create_tts,
    failure,
    import_server_plugin,
    servers_of,
    stt_server,
    tts_server,
)
from lkmongo.tenants import TenantPolicy
from tests.fake_llm import ScriptedLLM, calls
from tests.openai_server import HEARD, REQUESTS, create_app
from tests.sound_devices import Loudspeaker, Microphone
from tests.talk import calling
from tests.voice import RATE
from tests.waiting import until

KEY = "sk-a-key-that-nobody-may-see"
STT, TTS = "http://localhost:8000/v1", "http://localhost:8880/v1"


def settings(stt: str = STT, tts: str = TTS, **more: str) -> Settings:
    named = {"LKMONGO_STT": "whisper-1", "LKMONGO_TTS": "tts-1"}
    return Settings.load({"LKMONGO_STT_BASE_URL": stt, "LKMONGO_TTS_BASE_URL": tts} | named | more)


@pytest.mark.parametrize(
    ("named", "policy", "model", "language"),
    [
        ("whisper-1", {}, "whisper-1", None),
        ("whisper-1:de-AT", {}, "whisper-1", "de-AT"),
        ("Systran/faster-whisper-small", {}, "Systran/faster-whisper-small", None),
        ("whisper:large-v3", {}, "whisper:large-v3", None),
        ("whisper:large-v3:en", {}, "whisper:large-v3", "en"),
        ("whisper-1:en", {"language": "de"}, "whisper-1", "de"),
        ("whisper-1", {"voice": "anna"}, "whisper-1", None),
    ],
)
def test_the_recogniser_is_as_set_and_in_the_language_of_the_tenant(named, policy, model, language):
    server = stt_server(settings(LKMONGO_STT=named), TenantPolicy(**policy))
    assert (server.model, server.detail) == (model, language)
    made = create_stt(server)
    assert (made.model, made._opts.languages) == (model, [language] if language else [])
    assert not made.capabilities.streaming


@pytest.mark.parametrize(
    ("named", "policy", "model", "voice"),
    [
        ("tts-1", {}, "tts-1", "alloy"),
        ("tts-1:nova", {}, "tts-1", "nova"),
        ("speaches-ai/Kokoro-82M-v1.0-ONNX:af_heart", {}, "speaches-ai/Kokoro-82M-v1.0-ONNX", "af_heart"),
        ("tts-1:nova", {"voice": "otto", "language": "de"}, "tts-1", "otto"),
        ("tts-1:nova", {"voice": "rhasspy/piper:otto"}, "rhasspy/piper", "otto"),
    ],
)
def test_the_voice_is_as_set_or_that_of_the_tenant(named, policy, model, voice):
    made = create_tts(tts_server(settings(LKMONGO_TTS=named), TenantPolicy(**policy)))
    assert (made.model, made._opts.voice) == (model, voice)


def test_each_may_be_set_alone():
    assert servers_of(Settings.load({})) == []
    (one,) = servers_of(Settings.load({"LKMONGO_STT_BASE_URL": STT, "LKMONGO_STT": "whisper-1"}))
    (other,) = servers_of(Settings.load({"LKMONGO_TTS_BASE_URL": TTS, "LKMONGO_TTS": "tts-1"}))
    assert (one.part, one.description) == ("speech recognition", f"whisper-1 at {STT}")
    assert (other.part, other.description) == ("the voice", f"tts-1 at {TTS}")


@pytest.mark.parametrize("name", ["LKMONGO_STT", "LKMONGO_TTS"])
@pytest.mark.parametrize("value", [{}, "default"])
def test_a_model_of_livekit_inference_is_not_asked_of_a_server(name, value):
    default = Settings.model_fields[name.removeprefix("LKMONGO_").lower()].default
    environment = {f"{name}_BASE_URL": "http://localhost/v1"} | ({name: default} if value else {})
    with pytest.raises(SettingsError, match=f"{name} does not name a model of that server") as caught:
        servers_of(Settings.load(environment))
    assert name in caught.value.hint


@pytest.mark.parametrize(
    ("variable", "value", "accepted"),
    [
        ("LKMONGO_STT_BASE_URL", "localhost:8000", "must be an address such as http://localhost:8000/v1"),
        ("LKMONGO_TTS_BASE_URL", f"http://me:{KEY}@localhost/v1", "a key goes into LKMONGO_TTS_API_KEY"),
        ("LKMONGO_STT", "whisper-1,other", "must be model or model:language, as the server calls them"),
        ("LKMONGO_TTS", "tts 1", "must be model or model:voice"),
    ],
)
def test_what_no_server_can_be_asked_for_is_refused(variable, value, accepted):
    with pytest.raises(SettingsError) as caught:
        settings(**{variable: value})
    assert accepted in caught.value.message
    assert KEY not in f"{caught.value.message} {caught.value.why} {caught.value.hint}"


def test_a_model_is_set_by_the_program_too():
    assert settings().override(stt="small:en").stt == "small:en"
    with pytest.raises(SettingsError, match="stt must be provider/model"):
        Settings.load({}).override(stt="small")


def test_keys_are_secrets():
    loaded = settings(LKMONGO_STT_API_KEY=KEY, LKMONGO_TTS_API_KEY=f"{KEY}-2")
    assert {KEY, f"{KEY}-2"} <= set(loaded.secrets)
    assert KEY not in repr(loaded)


@pytest.mark.parametrize("variable", ["LKMONGO_STT_BASE_URL", "LKMONGO_TTS_BASE_URL"])
def test_a_server_needs_an_extra(monkeypatch, variable):
    import livekit.plugins

    monkeypatch.delattr(livekit.plugins, "openai", raising=False)
    monkeypatch.setitem(sys.modules, "livekit.plugins.openai", None)
    with pytest.raises(MissingExtraError, match=f"{variable} needs the extra openai"):
        import_server_plugin(Settings.load({variable: "http://127.0.0.1:9/v1"}))
    import_server_plugin(Settings.load({}))


@pytest.mark.parametrize(
    ("status", "code", "named"),
    [
        (None, ExitCode.FAILED, "LKMONGO_STT_BASE_URL"),
        (401, ExitCode.AUTHENTICATION, "LKMONGO_STT_API_KEY"),
        (404, ExitCode.FAILED, "LKMONGO_STT"),
        (500, ExitCode.FAILED, "LKMONGO_STT"),
    ],
)
def test_a_failure_says_what_to_do(status, code, named):
    error = failure(stt_server(settings(LKMONGO_STT_API_KEY=KEY)), status=status, why="no")
    assert error.exit_code is code
    assert STT in error.message
    assert named in error.hint
    assert KEY not in f"{error.message} {error.why} {error.hint}"
    assert isinstance(error, {None: UnreachableError, 401: AuthenticationError}.get(status, Exception))


# ---------------------------------------------------------------------- over HTTP


async def test_a_spoken_turn_is_heard_and_answered_by_servers(store):
    app = create_app()
    app[HEARD][:] = ["Please remember that my favorite color is teal."]
    remember = ("remember_detail", {"memory_type": "favorite_color", "content": "teal"})
    model = ScriptedLLM(calls(remember, greeting="Hello."))
    who = UserScope(tenant_id="default", user_id="u-100")
    async with TestServer(app) as server, calling(store, who, session_id="console-servers") as call:
        url = str(server.make_url("/v1"))
        stt, tts = servers_of(
            settings(url, url, LKMONGO_STT="small:en", LKMONGO_TTS="kokoro:af_heart", LKMONGO_TTS_API_KEY=KEY)
        )
        ears, voice = create_stt(stt), create_tts(tts)
        microphone, loudspeaker = Microphone(), Loudspeaker()
        async with AgentSession(
            llm=model, stt=ears, tts=voice, vad=inference.VAD(), userdata=call, turn_handling={"turn_detection": "vad"}
        ) as session:
            session.input.audio, session.output.audio = microphone, loudspeaker
            call.attach(session)
            await session.start(Assistant(), record=False)
            await until(lambda: loudspeaker.played and session.agent_state == "listening")
            microphone.say(2.0)
            await until(lambda: is_answered(session))
        answer = "I will remember your favorite color: teal."
        assert [slot.content for slot in await store.memories.slots(who)] == ["teal"]
        (_, heard), *_ = asked = [each for each in app[REQUESTS] if "seconds" in each[1]]
        assert (heard["model"], heard["language"]) == ("small", "en")
        assert len(asked) == 1
        assert heard["seconds"] > 1.5
        spoken = [(headers, body) for headers, body in app[REQUESTS] if "input" in body]
        assert [body["input"] for _, body in spoken] == ["Hello.", answer]
        for headers, body in spoken:
            assert (body["model"], body["voice"], body["response_format"]) == ("kokoro", "af_heart", "wav")
            assert headers["Authorization"] == f"Bearer {KEY}"
        # Eight words of a tenth of a second, at the server's rate.
        sound = np.frombuffer(loudspeaker.played, np.int16)
        assert np.count_nonzero(np.abs(sound) > 1_000) / RATE > 0.7
        await ears.aclose()
        await voice.aclose()


def is_answered(session) -> bool:
    items = [item for item in session.history.items if item.type == "message" and item.role == "assistant"]
    return len(items) > 1 and session.agent_state == "listening"


@pytest.mark.parametrize("status", [401, 404])
async def test_a_server_that_refuses_says_so_without_the_key(status):
    async with TestServer(create_app(status)) as server:
        url = str(server.make_url("/v1"))
        stt, tts = servers_of(settings(url, url, LKMONGO_STT_API_KEY=KEY, LKMONGO_TTS_API_KEY=KEY))
        ears, voice = create_stt(stt), create_tts(tts)
        frame = rtc.AudioFrame(bytes(2 * RATE), RATE, 1, RATE)
        with pytest.raises(APIStatusError) as caught:
            await ears.recognize(frame)
        assert caught.value.status_code == status
        assert KEY not in str(caught.value)
        await ears.aclose()
        await voice.aclose()
