"""The doctor at real servers: the embedder, Voyage, LiveKit, the language model; each refusal is told apart."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from docs import generate
from lkmongo.doctor import Status, examine, worst
from lkmongo.errors import ExitCode
from lkmongo.settings import Settings
from tests import livekit_api, openai_server
from tests.embedding_services import OpenAI, serving
from tests.webhook_receiver import SECRET, receiving

KEY = "pa-canary-key-1234567"


async def look_at(environ, *only, **options):
    settings, wrong = Settings.load_what_fits(environ)
    checks = {check.name: check for check in await examine(settings, wrong, only=only, **options)}
    return checks[only[0]] if len(only) == 1 else [checks[name] for name in only]


@pytest.fixture
async def serve():
    """Start servers, and let go of requests that hang when the test ends."""
    servers = []

    async def start(app):
        servers.append(server := TestServer(app))
        await server.start_server()
        return f"{server.host}:{server.port}"

    yield start
    for server in servers:
        await server.close()


def app_with(method, path, handler):
    app = web.Application()
    app.router.add_route(method, path, handler)
    return app


async def hang(_request):
    await asyncio.Event().wait()


# -- embeddings


def voyage_app(script):
    async def embeddings(request):
        body = await request.json()
        script.setdefault("texts", []).extend(body["input"])
        if status := script.get("status"):
            return web.json_response({"detail": "no, and never mind"}, status=status)
        rows = [{"embedding": [1.0] * body["output_dimension"], "index": 0}]
        return web.json_response({"data": rows, "model": body["model"], "usage": {"total_tokens": 1}})

    return app_with("POST", "/v1/embeddings", embeddings)


async def test_the_local_embedder_embeds(home):
    checks = await look_at({}, "embedder", "voyage")
    assert [check.status for check in checks] == [Status.OK, Status.SKIP]
    assert "on this machine" in checks[0].detail
    assert "VOYAGE_API_KEY is not set" in checks[1].detail


async def test_where_mongodb_embeds_nobody_is_asked(home):
    environ = {"LKMONGO_EMBEDDINGS": "atlas", "MONGODB_URI": "mongodb://127.0.0.1:1", "VOYAGE_API_KEY": KEY}
    embedder, voyage = await look_at(environ, "embedder", "voyage")
    assert (embedder.status, embedder.detail) == (
        Status.OK,
        "MongoDB embeds by itself: voyage-4-lite, 512 numbers a vector",
    )
    assert voyage.status is Status.SKIP
    assert "text is embedded by MongoDB" in voyage.detail


async def test_a_voyage_key_that_is_not_used_is_not_tried():
    check = await look_at({"VOYAGE_API_KEY": KEY, "LKMONGO_EMBEDDINGS": "local"}, "voyage")
    assert (check.status, check.seconds < 5) == (Status.SKIP, True)


@pytest.mark.parametrize(
    ("status", "found", "exit_code", "said"),
    [
        (None, Status.OK, ExitCode.OK, "the key is valid for voyage-4-lite"),
        (401, Status.FAIL, ExitCode.AUTHENTICATION, "Voyage refused the API key"),
        (429, Status.WARN, ExitCode.OK, "the key is valid, and Voyage refuses more requests"),
        (500, Status.FAIL, ExitCode.FAILED, "Voyage answered 500"),
    ],
)
async def test_voyage_is_asked_for_one_word(serve, status, found, exit_code, said):
    script = {"status": status}
    url = f"http://{await serve(voyage_app(script))}/v1"
    check = await look_at({"VOYAGE_API_KEY": KEY, "VOYAGE_BASE_URL": url}, "voyage")
    assert (check.status, check.exit_code) == (found, exit_code)
    assert said in check.detail
    assert check.hint or found is not Status.WARN
    assert set(script["texts"]) == {"hello"}
    assert KEY not in str(check)


async def test_a_voyage_that_is_not_there_fails():
    environ = {"VOYAGE_API_KEY": KEY, "VOYAGE_BASE_URL": f"http://127.0.0.1:{unused_port()}/v1"}
    checks = await look_at(environ, "embedder", "voyage")
    assert [check.status for check in checks] == [Status.OK, Status.FAIL]


async def test_an_embedder_that_cannot_be_set_up_is_told_once(mongodb_uri, database_name):
    environ = {"VOYAGE_API_KEY": KEY, "LKMONGO_EMBEDDING_MODEL": "voyage-99", "MONGODB_URI": mongodb_uri}
    settings, wrong = Settings.load_what_fits(environ)
    checks = await examine(settings, wrong, only=["settings", "embedder", "voyage", "vectors"])
    assert [check.name for check in checks if check.status is Status.FAIL] == ["settings"]
    alone = await look_at(environ, "embedder")
    assert alone.status is Status.FAIL
    assert "voyage-99" in alone.detail


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"LKMONGO_EMBEDDING_MODEL": "voyage-4"}, Status.WARN),
        ({"LKMONGO_EMBEDDING_DIMENSIONS": "512"}, Status.WARN),
        ({"LKMONGO_EMBEDDING_MODEL": "voyage-4", "LKMONGO_EMBEDDINGS": "local"}, Status.OK),
    ],
)
async def test_a_model_that_nobody_was_named_for_is_told(environ, found):
    check = await look_at(environ, "embedder")
    assert (check.status, "on this machine" in check.detail) == (found, True)
    assert found is Status.OK or "VOYAGE_API_KEY or LKMONGO_EMBEDDING_BASE_URL" in check.hint


@pytest.mark.parametrize(
    ("options", "model", "found", "said", "hint"),
    [
        ({"native": 768}, "nomic-embed-text", Status.OK, "nomic-embed-text at http://127.0.0.1", None),
        ({"native": 512}, "nomic-embed-text", Status.FAIL, "vectors of 512 numbers, not 768", "DIMENSIONS"),
        ({"native": 333}, "own", Status.FAIL, "DIMENSIONS is not set", "set LKMONGO_EMBEDDING_DIMENSIONS=333"),
        ({"key": "another"}, "bge-m3", Status.FAIL, "refused the API key", "LKMONGO_EMBEDDING_API_KEY"),
    ],
)
async def test_an_embedding_server_is_asked_for_one_word(options, model, found, said, hint):
    async with serving(OpenAI(**options)) as server:
        environ = {
            "LKMONGO_EMBEDDING_BASE_URL": server.url,
            "LKMONGO_EMBEDDING_API_KEY": KEY,
            "LKMONGO_EMBEDDING_MODEL": model,
        }
        checks = await look_at(environ, "embedder", "voyage", "settings")
    assert (checks[0].status, checks[1].status) == (found, Status.SKIP)
    assert said in checks[0].detail
    assert (hint or "") in (checks[0].hint or "")
    assert len(server.requests) == 1
    assert server.url in checks[1].detail
    assert KEY not in str(checks)
    if found is Status.OK:
        assert checks[0].facts == ("before a query: 'search_query: '", "before a document: 'search_document: '")


async def test_an_embedding_server_that_is_not_there_fails():
    environ = {
        "LKMONGO_EMBEDDING_BASE_URL": f"http://127.0.0.1:{unused_port()}/v1",
        "LKMONGO_EMBEDDING_MODEL": "bge-m3",
    }
    check = await look_at(environ, "embedder")
    assert (check.status, "LKMONGO_EMBEDDING_BASE_URL" in check.hint) == (Status.FAIL, True)


# -- LiveKit


def livekit(where, secret=livekit_api.SECRET, scheme="ws"):
    return {"LIVEKIT_URL": f"{scheme}://{where}", "LIVEKIT_API_KEY": livekit_api.KEY, "LIVEKIT_API_SECRET": secret}


async def test_livekit_takes_the_key(serve):
    check = await look_at(livekit(await serve(livekit_api.create_app())), "livekit")
    assert check.status is Status.OK
    assert "the key APIabcdefgh is valid" in check.detail


async def test_livekit_refuses_another_secret(serve):
    wrong = "another-canary-secret-that-is-long-enough"
    check = await look_at(livekit(await serve(livekit_api.create_app()), wrong), "livekit")
    assert (check.status, check.exit_code) == (Status.FAIL, ExitCode.AUTHENTICATION)
    assert "refused the API key: invalid token" in check.detail
    assert "LIVEKIT_API_SECRET" in check.hint
    assert wrong not in str(check)
    assert worst([check]).exit_code is ExitCode.AUTHENTICATION


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")  # the server's, when it verifies
async def test_a_short_secret_is_a_warning(serve):
    check = await look_at(livekit(await serve(livekit_api.create_app("secret")), "secret"), "livekit")
    assert check.status is Status.WARN
    assert "only 6 bytes" in check.detail
    assert "openssl rand -hex 32" in check.hint


async def nothing_here(_request):
    return web.Response(text="<h1>Welcome to nginx!</h1>", status=200, content_type="text/html")


@pytest.mark.parametrize(
    ("app", "said"),
    [
        (web.Application, "is not LiveKit, or has failed: HTTP status 404"),
        (lambda: app_with("POST", "/{path:.*}", nothing_here), "is not LiveKit"),
        (lambda: app_with("POST", "/{path:.*}", hang), "cannot be reached at ws://"),
    ],
    ids=["not found", "another page", "silence"],
)
async def test_what_is_not_livekit_is_told(serve, monkeypatch, request, app, said):
    if request.node.callspec.id == "silence":
        monkeypatch.setattr("lkmongo.doctor.services.PATIENCE", 0.2)
    check = await look_at(livekit(await serve(app())), "livekit")
    assert (check.status, check.exit_code) == (Status.FAIL, ExitCode.FAILED)
    assert said in check.detail
    assert "LIVEKIT_URL" in check.hint


async def test_a_livekit_that_is_not_there_fails():
    check = await look_at(livekit(f"127.0.0.1:{unused_port()}", scheme="wss"), "livekit")
    assert (check.status, check.exit_code) == (Status.FAIL, ExitCode.FAILED)
    assert "cannot be reached" in check.detail


async def test_livekit_that_is_set_in_part_is_told_by_the_settings_or_by_itself():
    environ = {"LIVEKIT_URL": "wss://x.livekit.cloud", "LIVEKIT_API_KEY": "k"}
    checks = await look_at(environ, "settings", "livekit")
    assert [check.status for check in checks] == [Status.FAIL, Status.SKIP]
    alone = await look_at(environ, "livekit")
    assert (alone.status, "LIVEKIT_API_SECRET is not set" in alone.detail) == (Status.FAIL, True)


# -- the agent and its language model


async def mind(serve, handler, **environ):
    url = f"http://{await serve(app_with('GET', '/v1/models', handler))}/v1"
    return await look_at({"LKMONGO_LLM_BASE_URL": url, "LKMONGO_LLM": "llama3.2"} | environ, "agent.mind")


@pytest.mark.parametrize(
    ("models", "status", "hint"),
    [(["llama3.2", "other"], Status.OK, None), ([], Status.OK, None), (["a", "b"], Status.WARN, "a, b")],
)
async def test_the_language_model_is_looked_for_in_the_servers_list(serve, models, status, hint):
    async def answer(_request):
        return web.json_response({"object": "list", "data": [{"id": name} for name in models]})

    check = await mind(serve, answer)
    assert check.status is status
    assert "llama3.2" in check.detail
    assert check.hint is None if hint is None else hint in check.hint


async def test_a_server_that_greets_instead_of_listing_is_taken_as_it_is_and_that_is_said(serve):
    check = await mind(serve, nothing_here)
    assert (check.status, check.detail.endswith(", which does not say what models it has")) == (Status.OK, True)


@pytest.mark.parametrize(
    ("status", "found", "exit_code"),
    [(401, Status.FAIL, ExitCode.AUTHENTICATION), (404, Status.WARN, ExitCode.OK), (500, Status.WARN, ExitCode.OK)],
)
async def test_the_language_models_server_refuses(serve, status, found, exit_code):
    keys = []

    async def answer(request):
        keys.append(request.headers.get("Authorization"))
        return web.json_response({}, status=status)

    check = await mind(serve, answer, LKMONGO_LLM_API_KEY=KEY)
    assert (check.status, check.exit_code) == (found, exit_code)
    assert keys == [f"Bearer {KEY}"]
    assert KEY not in str(check)


async def test_the_test_suites_own_language_model_is_fine(serve):
    url = f"http://{await serve(openai_server.create_app())}/v1"
    assert (await look_at({"LKMONGO_LLM_BASE_URL": url}, "agent.mind")).status is Status.OK


async def test_a_language_model_that_is_not_there_fails():
    url = f"http://127.0.0.1:{unused_port()}/v1"
    check = await look_at({"LKMONGO_LLM_BASE_URL": url}, "agent.mind")
    assert (check.status, check.exit_code) == (Status.FAIL, ExitCode.FAILED)
    assert url in check.detail


async def test_livekit_inference_is_named_and_half_of_its_settings_is_not_enough():
    assert "LiveKit Inference" in (await look_at(livekit("x.livekit.cloud", scheme="wss"), "agent.mind")).detail
    check = await look_at({"LIVEKIT_INFERENCE_URL": "http://localhost:1/v1"}, "agent.mind")
    assert check.status is Status.FAIL
    assert "LIVEKIT_INFERENCE_API_KEY is not set" in check.detail


async def test_an_agent_of_ones_own_is_imported(monkeypatch, tmp_path):
    import sys

    monkeypatch.chdir(generate.ROOT / "docs" / "examples")
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "say.txt").write_text("Be brief.")
    environ = {"LKMONGO_AGENT": "concierge:Concierge", "LKMONGO_INSTRUCTIONS": str(tmp_path / "say.txt")}
    check = await look_at(environ, "agent", own_code=True)
    sys.modules.pop("concierge", None)
    assert (check.status, check.detail) == (Status.OK, "concierge:Concierge, with 10 tools")
    assert check.facts == (f"instructions from {tmp_path / 'say.txt'}",)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"LKMONGO_AGENT": "nowhere:Agent"}, "there is no module nowhere"),
        ({"LKMONGO_AGENT": "json:JSONDecoder"}, "is not an agent"),
        ({"LKMONGO_INSTRUCTIONS": "missing.txt"}, "missing.txt, which cannot be read"),
    ],
)
async def test_an_agent_that_cannot_be_built_fails(tmp_path, environ, said):
    check = await look_at(environ, "agent", own_code=True)
    assert check.status is Status.FAIL
    assert said in check.detail


async def test_audio_devices_are_asked_for_elsewhere_and_may_be_missing():
    check = await look_at({}, "audio")
    assert check.status in {Status.OK, Status.SKIP}
    assert check.status is Status.OK or "the text console needs none" in check.detail


# -- the webhook


async def test_a_receiver_that_answers_gets_no_event():
    async with receiving() as receiver:
        check = await look_at(receiver.environment, "webhook")
        assert (check.status, check.detail) == (Status.OK, f"{receiver.endpoint.host} answers")
        assert receiver.events == []


async def test_a_receiver_that_is_away_is_a_warning_that_does_not_tell_the_whole_address():
    url = f"http://127.0.0.1:{unused_port()}/a-token"
    check = await look_at({"LKMONGO_WEBHOOK_URL": url, "LKMONGO_WEBHOOK_SECRET": SECRET}, "webhook")
    assert check.status is Status.WARN
    assert "the webhook's receiver at 127.0.0.1" in check.detail
    assert "a-token" not in f"{check.detail} {check.hint}"


async def test_a_webhook_without_a_secret_is_a_failure():
    check = await look_at({"LKMONGO_WEBHOOK_URL": "https://example.com/hook"}, "webhook")
    assert check.status is Status.FAIL
    assert "LKMONGO_WEBHOOK_SECRET is not set" in check.detail
