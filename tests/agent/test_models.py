"""The choice of the language model, and a conversation through each kind of server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator

import jwt
import pytest
from aiohttp.test_utils import TestServer
from livekit.agents import llm

from lkmongo.agent.models import check_inference_llm, check_language_model, choose_model, import_plugins
from lkmongo.console.lines import Line
from lkmongo.console.text import Listener, Outcome, converse
from lkmongo.errors import MissingExtraError, SettingsError
from lkmongo.model import UserScope
from lkmongo.settings import Settings
from tests.conftest import clean_environment
from tests.openai_server import REQUESTS, create_app

ROBIN = UserScope(tenant_id="default", user_id="u-100")
SECRET = "s3cret-s3cret-s3cret-s3cret-s3cret"
CLOUD = {"LIVEKIT_URL": "wss://x.livekit.cloud", "LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": SECRET}


class PartialTranscript:
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.events: list[dict] = []
        self.warnings: list[str] = []
        self.listener = Listener(self.events.append, lambda _: None, self.warnings.append, lambda _: None)

    @property
    def answers(self) -> list[str]:
        return [event["text"] for event in self.events if event.get("role") == "assistant"]


async def said(*texts: str) -> AsyncIterator[Line]:
    for number, text in enumerate(texts, 1):
        yield Line(number, text)


@pytest.mark.parametrize(
    ("environment", "description"),
    [
        ({}, None),
        (CLOUD | {"LIVEKIT_URL": "ws://localhost:7880"}, None),
        (CLOUD | {"LIVEKIT_URL": "wss://livekit.cloud.example.com"}, None),
        (CLOUD, "LiveKit Inference"),
        (
            CLOUD | {"LIVEKIT_URL": "ws://localhost:7880", "LIVEKIT_INFERENCE_URL": "http://localhost:1/v1"},
            "LiveKit Inference",
        ),
        (CLOUD | {"LKMONGO_LLM_BASE_URL": "http://localhost:1/v1", "LKMONGO_LLM": "llama"}, "llama at http"),
    ],
)
async def test_the_model_follows_from_the_settings(environment, description):
    mind = choose_model(Settings.load(environment))
    if description is None:
        assert mind is None
        with pytest.raises(SettingsError, match="no language model"):
            check_language_model(Settings.load(environment))
        return
    check_language_model(Settings.load(environment))
    assert description in mind.description
    assert not mind.is_responder
    await mind.llm.aclose()


def test_a_job_is_made_ready_with_the_demo_responder_only_when_there_is_no_language_model():
    code = (
        "import sys\n"
        "from lkmongo.worker import agent_server\n"
        "from lkmongo.worker.prewarm import Prewarm\n"
        "from lkmongo.settings import Settings\n"
        "for url in ('http://127.0.0.1:1/v1', ''):\n"
        "    ready = Prewarm(Settings.load({'LKMONGO_LLM_BASE_URL': url, 'MONGODB_URI': 'mongodb://127.0.0.1:1/'}))\n"
        "    print(ready.model.is_responder, any(name.startswith('lkmongo.demo') for name in sys.modules))\n"
        "import os; os._exit(0)\n"
    )
    command = [sys.executable, "-uc", code]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True", "True"]


def test_a_gateway_without_a_key_is_refused():
    with pytest.raises(SettingsError, match="LIVEKIT_INFERENCE_API_KEY is not set"):
        choose_model(Settings.load({"LIVEKIT_INFERENCE_URL": "http://localhost:1/v1"}))


async def hold(
    mongodb_uri: str, database_name: str, environment: dict[str, str], *texts: str
) -> tuple[PartialTranscript, Outcome]:
    heard = PartialTranscript()
    settings = Settings.load({"MONGODB_URI": mongodb_uri, "MONGODB_DB": database_name} | environment)
    outcome = await converse(settings, ROBIN, said(*texts), heard.listener)
    return heard, outcome


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    async with TestServer(create_app()) as running:
        yield running


async def test_a_conversation_with_an_openai_compatible_server(store, mongodb_uri, database_name, server):
    await store.memories.remember(ROBIN, "favorite_color", "teal")
    await store.users.set_field(ROBIN, "name", "Robin")
    environment = {
        "LKMONGO_LLM_BASE_URL": str(server.make_url("/v1")),
        "LKMONGO_LLM": "llama3.2",
        "LKMONGO_LLM_API_KEY": SECRET,
    }
    heard, outcome = await hold(mongodb_uri, database_name, environment, "hello", "recall my color")
    assert heard.answers == [
        "Welcome back, Robin, says 9 tools.",
        "You said: hello",
        "The tool said: Your favorite color: teal.",
    ]
    assert outcome.stored
    requests = server.app[REQUESTS]
    assert all(headers["Authorization"] == f"Bearer {SECRET}" for headers, _ in requests)
    assert all(body["model"] == "llama3.2" for _, body in requests)
    *asked, summary = [body for _, body in requests]
    assert not summary.get("tools")
    for body in asked:
        briefings = [message for message in body["messages"] if "<caller_data>" in str(message.get("content"))]
        assert len(briefings) == 1
        assert briefings[0]["role"] == "assistant"
    turns = await store.sessions.turns(ROBIN, outcome.session_id)
    assert [turn.role or turn.name for turn in turns] == [
        "assistant",
        "user",
        "assistant",
        "user",
        "recall_detail",
        "assistant",
    ]


async def test_a_conversation_through_an_inference_gateway(store, mongodb_uri, database_name, server):
    environment = {
        "LIVEKIT_INFERENCE_URL": str(server.make_url("/v1")),
        "LIVEKIT_INFERENCE_API_KEY": "k",
        "LIVEKIT_INFERENCE_API_SECRET": SECRET,
    }
    heard, _ = await hold(mongodb_uri, database_name, environment, "hello")
    assert heard.answers == ["Welcome.", "You said: hello"]
    headers, body = server.app[REQUESTS][-1]
    assert body["model"] == "openai/gpt-5.3-chat-latest"
    claims = jwt.decode(headers["Authorization"].removeprefix("Bearer "), SECRET, algorithms=["HS256"])
    assert claims["iss"] == "k"


async def test_a_server_that_refuses_is_told_and_the_call_is_recorded_all_the_same(store, mongodb_uri, database_name):
    async with TestServer(create_app(status=401)) as server:
        environment = {"LKMONGO_LLM_BASE_URL": str(server.make_url("/v1")), "LKMONGO_LLM_API_KEY": SECRET}
        heard, outcome = await hold(mongodb_uri, database_name, environment, "hello")
    assert heard.answers == []
    assert "the language model did not answer" in heard.warnings[0]
    assert SECRET not in " ".join(heard.warnings)
    assert outcome.unanswered == 2
    assert outcome.stored
    turns = await store.sessions.turns(ROBIN, outcome.session_id)
    assert [turn.content for turn in turns if turn.role == "user"] == ["hello"]


@pytest.mark.parametrize("value", ["gpt-5", "openai/", "openai/a b", "openai/a,gpt-5"])
def test_a_language_model_that_inference_cannot_know_is_refused(value):
    with pytest.raises(SettingsError) as caught:
        check_inference_llm(Settings.load(CLOUD | {"LKMONGO_LLM": value}))
    assert "LKMONGO_LLM" in caught.value.message
    if caught.value.hint and "provider/model" not in caught.value.hint:
        assert "provider/model" in caught.value.message


def test_a_server_of_ones_own_may_call_its_models_as_it_likes():
    assert (
        Settings.load({"LKMONGO_LLM": "llama3:8b", "LKMONGO_LLM_BASE_URL": "http://localhost:1/v1"}).llm == "llama3:8b"
    )


@pytest.mark.parametrize("value", ["", "   "])
def test_an_empty_agent_name_is_the_default(value):
    assert Settings.load({"LKMONGO_AGENT_NAME": value}).agent_name == "lkmongo-agent"


async def test_the_second_language_model_is_a_fallback():
    mind = choose_model(Settings.load(CLOUD | {"LKMONGO_LLM": "openai/gpt-4.1-mini, google/gemini-3-flash"}))
    assert isinstance(mind.llm, llm.FallbackAdapter)
    assert [each.model for each in mind.parts] == ["openai/gpt-4.1-mini", "google/gemini-3-flash"]
    assert mind.description.startswith("openai/gpt-4.1-mini, else google/gemini-3-flash")
    await mind.close()


@pytest.mark.parametrize("use", [choose_model, import_plugins])
def test_a_server_of_ones_own_needs_an_extra(use, monkeypatch):
    import livekit.plugins

    monkeypatch.delattr(livekit.plugins, "openai", raising=False)
    monkeypatch.setitem(sys.modules, "livekit.plugins.openai", None)
    with pytest.raises(MissingExtraError, match="LKMONGO_LLM_BASE_URL needs the extra openai") as caught:
        use(Settings.load({"LKMONGO_LLM_BASE_URL": "http://127.0.0.1:9/v1"}))
    assert caught.value.hint == 'pip install "lkmongo[openai]"'
