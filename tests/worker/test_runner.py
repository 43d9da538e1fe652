"""Starting the worker: what is missing, refused or unreachable is reported before anything starts."""

from __future__ import annotations

import asyncio
import os
import warnings

import pytest
from aiohttp import web
from livekit.agents import JobExecutorType, JobProcess, function_tool
from livekit.api import AccessToken

from lkmongo.agent.assistant import Assistant
from lkmongo.errors import AuthenticationError, SettingsError, UnreachableError
from lkmongo.settings import Settings
from lkmongo.worker import runner
from lkmongo.worker.runner import Options
from tests.livekit_api import KEY, SECRET, create_app
from tests.waiting import PATIENCE, until


@pytest.fixture
async def livekit():
    server = web.AppRunner(create_app())
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    yield f"ws://127.0.0.1:{server.addresses[0][1]}"
    await server.cleanup()


def settings(url, secret=SECRET, **more):
    return Settings.load({"LIVEKIT_URL": url, "LIVEKIT_API_KEY": KEY, "LIVEKIT_API_SECRET": secret} | more)


def test_without_credentials_one_error_names_all_three():
    with pytest.raises(SettingsError) as caught:
        runner.run(Settings.load({}), Options())
    assert caught.value.exit_code == 2
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        assert name in caught.value.message


@pytest.mark.parametrize(("url", "dev"), [("ws://127.0.0.1:1", False), ("ws://192.0.2.1:1", True)])
def test_a_secret_for_development_is_reported_in_one_line_of_our_own(caplog, monkeypatch, url, dev):
    monkeypatch.setattr(runner, "_run", tokens_are_made)
    with warnings.catch_warnings():
        runner.run(settings(url, "secret"), Options(dev=dev, demo=True))
    told = [record.message for record in caplog.records]
    assert [message for message in told if "could be guessed" in message] == told
    assert len(told) == 1


async def tokens_are_made(settings, *_):
    """As the SDK does in its own ways; a warning would be an error here."""
    AccessToken(settings.livekit_api_key, settings.livekit_api_secret.get_secret_value()).to_jwt()


def test_a_secret_that_could_be_guessed_is_refused_before_anything_else():
    with pytest.raises(SettingsError, match="LIVEKIT_API_SECRET has only 6 bytes") as caught:
        runner.run(settings("wss://voice.example", "secret"), Options(demo=True))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("demo", [False, True])
def test_the_demo_responder_answers_callers_only_on_request(demo):
    """The demo goes on to LiveKit, where nobody is."""
    with pytest.raises(UnreachableError if demo else SettingsError) as caught:
        runner.run(settings("ws://127.0.0.1:1"), Options(dev=True, demo=demo))
    if not demo:
        assert caught.value.exit_code == 2
        assert caught.value.message == "there is no language model to answer callers"
        for name in ("--demo", "LKMONGO_LLM_BASE_URL"):
            assert name in caught.value.hint


def test_nor_do_jobs_of_livekits_own_tools_answer_without_a_language_model(monkeypatch, tmp_path):
    from lkmongo.worker import server

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="no language model"):
        server.server._setup_fnc(
            JobProcess(executor_type=JobExecutorType.PROCESS, user_arguments=None, http_proxy=None)
        )


class Shop(Assistant):
    @function_tool
    async def lookup_order(self, order_id: str) -> str:
        return "It is on its way."

    @function_tool
    async def check_stock(self, product: str) -> str:
        return "There are some."


def test_tools_that_the_demo_responder_never_calls_are_reported(caplog):
    runner._create_server(settings("ws://x", LKMONGO_AGENT=f"{__name__}:Shop"), Options(demo=True))
    told = [record.message for record in caplog.records]
    assert "The tools that Shop adds (check_stock) are not called: they need a language model." in told
    caplog.clear()
    runner._create_server(settings("ws://x"), Options(demo=True))
    assert not [record for record in caplog.records if "need a language model" in record.message]


@pytest.mark.parametrize("aloud", [False, True])
def test_what_the_sdk_does_for_speech_it_does_aloud_only(monkeypatch, aloud):
    variables = {"LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE": "0", "LIVEKIT_AGENTS_LOOP_BLOCK_WARN_MS": "0"}
    environment = {name: value for name, value in os.environ.items() if name not in variables}
    monkeypatch.setattr("os.environ", environment)
    speech = {"LIVEKIT_INFERENCE_URL": "http://127.0.0.1:1/v1"} if aloud else {"LKMONGO_SPEECH": "off"}
    runner._create_server(settings("ws://x", **speech), Options(demo=True))
    assert {name: environment[name] for name in variables if name in environment} == ({} if aloud else variables)


async def test_a_refused_key_is_an_authentication_error(livekit):
    with pytest.raises(AuthenticationError) as caught:
        await runner._check_livekit(settings(livekit, "another secret, as long as they should be").livekit, patience=9)
    assert caught.value.exit_code == 4


async def test_an_unreachable_server_is_retried(monkeypatch, caplog):
    monkeypatch.setattr(runner, "_CONNECT_RETRY", 0.1)
    with pytest.raises(UnreachableError) as caught:
        await runner._check_livekit(settings("ws://127.0.0.1:1").livekit, patience=0.5)
    assert caught.value.exit_code == 1
    assert [record.message for record in caplog.records if "retrying" in record.message]
    assert runner.CONNECT_TIMEOUT < 30


async def test_a_server_that_starts_meanwhile_is_reached(monkeypatch, livekit):
    monkeypatch.setattr(runner, "_CONNECT_RETRY", 0.05)
    down = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = down.sockets[0].getsockname()[1]
    reaching = asyncio.create_task(runner._check_livekit(settings(f"ws://127.0.0.1:{port}").livekit, patience=PATIENCE))
    await asyncio.sleep(0.3)
    down.close()
    await down.wait_closed()
    server = web.AppRunner(create_app())
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", port).start()
    await reaching
    await server.cleanup()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LKMONGO_AGENT", "no_such_module:Agent"),
        ("LKMONGO_INSTRUCTIONS", "no-such-file"),
        ("LKMONGO_LLM", "gpt-5"),
        ("LKMONGO_EMBEDDINGS", "voyage"),
    ],
)
def test_an_unusable_setting_is_refused_at_the_start(variable, value):
    wrong = settings("ws://x", LIVEKIT_INFERENCE_URL="http://127.0.0.1:1/v1", **{variable: value})
    with pytest.raises(SettingsError, match=variable):
        runner._create_server(wrong, Options())


def test_livekits_own_tools_find_the_server_and_its_functions_can_be_sent_to_other_processes(monkeypatch):
    import pickle
    from pathlib import Path

    from livekit.agents.cli.discover import get_import_data

    import lkmongo.worker.server as module

    monkeypatch.syspath_prepend(str(Path(module.__file__).parents[2]))
    found = get_import_data(path=Path(module.__file__))
    assert found.import_string == "lkmongo.worker.server:server"
    server = module.server
    for function in (server._entrypoint_fnc, server._setup_fnc, server._session_end_fnc):
        pickle.loads(pickle.dumps(function))
    assert server._agent_name == "lkmongo-agent"


async def test_an_unreachable_mongodb_is_logged_once_and_delays_nothing(monkeypatch, caplog):
    monkeypatch.setattr(runner, "_BACKFILL_RETRY", 0.05)
    away = settings("ws://x", MONGODB_URI="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50")

    def warnings():
        return [record.message for record in caplog.records if record.levelname == "WARNING"]

    async with runner._background_work(away, away.livekit):
        await until(warnings)
        await asyncio.sleep(0.5)  # in which it is looked for again
    assert len(warnings()) == 1
    assert "sessions continue without" in warnings()[0]
