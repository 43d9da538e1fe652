"""Servers with OpenAI's embeddings API, over real HTTP: what they send, refuse, and keep one waiting for."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from lkmongo.embed import base
from lkmongo.embed.openai import FAMILIES, OpenAIEmbedder, family_of
from lkmongo.errors import AuthenticationError, EmbeddingError, SettingsError
from tests.embedding_services import OpenAI, serving, vector_of

KEY = "sk-canary-key-1234567"
MODEL = "own-model"


@pytest.fixture
async def server():
    async with serving(OpenAI()) as service:
        yield service


@pytest.fixture
def slept():
    return []


@pytest.fixture
async def make(server, slept):
    made = []

    async def sleep(seconds):
        slept.append(seconds)

    def build(url=None, model=MODEL, dimensions=384, **options):
        made.append(OpenAIEmbedder(url or server.url, model=model, dimensions=dimensions, sleep=sleep, **options))
        return made[-1]

    yield build
    for embedder in made:
        await embedder.close()


async def ask(embedder, text="where is my parcel", deadline=20.0):
    return await embedder.embed([text], kind="query", deadline=deadline)


async def collect(embedder, texts, **options):
    parts = [part async for part in embedder.embed_many(texts, **options)]
    return np.concatenate(parts)


def error(status, message, **headers):
    return web.json_response({"error": {"message": message}}, status=status, headers=headers)


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    "answer", [{}, {"base64": True}, {"numbered": False}, {"scale": 17.0}, {"dimensions": "refused"}], ids=str
)
async def test_texts_become_unit_vectors_in_their_order_however_they_are_sent(server, make, answer):
    for name, value in answer.items():
        setattr(server, name, value)
    vectors = await make().embed(["first", "second", "third"], kind="document")
    expected = [vector_of(text, MODEL, 384) for text in ("first", "second", "third")]
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert vectors.dtype == np.float32


async def test_dimensions_are_asked_for_where_they_are_set_and_not_again_once_refused(server, make):
    await ask(make(dimensions=None, model="e5-small"))
    assert "dimensions" not in server.requests[0]
    assert (await ask(make(dimensions=128))).shape == (1, 128)
    assert server.requests[1]["dimensions"] == 128
    server.dimensions, embedder = "refused", make()
    await ask(embedder)
    await ask(embedder)
    assert ["dimensions" in request for request in server.requests[2:]] == [True, False, False]


@pytest.mark.parametrize("dimensions", ["refused", "ignored"])
async def test_vectors_of_another_length_than_set_are_not_taken(server, make, dimensions):
    server.dimensions = dimensions
    with pytest.raises(base.UnknownModelError, match="vectors of 384 numbers, not 128") as caught:
        await ask(make(dimensions=128))
    assert "LKMONGO_EMBEDDING_DIMENSIONS" in caught.value.hint


async def test_the_key_is_sent_where_there_is_one(server, make):
    await ask(make())
    assert "Authorization" not in server.headers[0]
    server.key = KEY
    await ask(make(api_key=f" {KEY}\n"))
    assert server.headers[1]["Authorization"] == f"Bearer {KEY}"


async def test_the_server_is_asked_how_long_its_vectors_are(server, make):
    server.native = 777
    assert await make(dimensions=5).measure() == 777


async def test_warming_loads_the_model_and_opens_the_connection_that_is_used(server, make):
    embedder = make()
    await embedder.warm()
    await ask(embedder)
    assert len(server.requests) == 2
    assert len(server.connections) == 1


ROW = {"index": 0, "embedding": [1.0] * 384}
ODD = [
    ({"data": []}, "0 vectors for 1 text"),
    ({"data": [ROW, ROW]}, "numbers its vectors wrongly"),
    ({"data": [ROW | {"index": 7}]}, "numbers its vectors wrongly"),
    ({"data": [ROW | {"embedding": [0.0] * 384}]}, "zero or not a number"),
    ({"data": [ROW | {"embedding": [1e300] * 384}]}, "zero or not a number"),
    ('{"data": [{"index": 0, "embedding": [NaN%s]}]}' % (", 1" * 383), "zero or not a number"),
    ({"data": [ROW | {"embedding": "no base64!"}]}, "something other than vectors"),
    ({"data": [ROW | {"embedding": ["a"] * 384}]}, "something other than vectors"),
    ({"data": [ROW | {"embedding": 7}]}, "something other than vectors"),
    ({"data": ["text"]}, "something other than vectors"),
    ({"object": "list"}, "something other than vectors"),
    ("<h1>Welcome</h1>", "something other than vectors"),
]


@pytest.mark.parametrize(("body", "said"), ODD, ids=[f"{said}-{number}" for number, (_, said) in enumerate(ODD)])
async def test_what_is_no_vector_is_not_taken(server, make, body, said):
    text = body if isinstance(body, str) else json.dumps(body)
    server.script.append(web.Response(text=text, content_type="application/json"))
    with pytest.raises(EmbeddingError, match=said):
        await ask(make())


# ---------------------------------------------------------------- refusals


REFUSALS = [
    (401, "Incorrect API key provided: sk-canary-key-1234567", AuthenticationError, "LKMONGO_EMBEDDING_API_KEY"),
    (403, "forbidden", AuthenticationError, "LKMONGO_EMBEDDING_API_KEY"),
    (404, 'model "own-model" not found, try pulling it first', base.UnknownModelError, "LKMONGO_EMBEDDING_MODEL"),
    (404, "The model `own-model` does not exist.", base.UnknownModelError, "LKMONGO_EMBEDDING_MODEL"),
    (400, "No models loaded. Please load a model.", base.UnknownModelError, "LKMONGO_EMBEDDING_MODEL"),
    (404, "404 page not found", base.WrongAddressError, "LKMONGO_EMBEDDING_BASE_URL"),
    (307, "moved", base.WrongAddressError, "/v1"),
    (405, "Method Not Allowed", base.WrongAddressError, "LKMONGO_EMBEDDING_BASE_URL"),
    (400, "This model's maximum context length is 512 tokens.", base.TextTooLongError, "shorter"),
    (
        413,
        "Input validation error: `inputs` must have less than 512 tokens. Given: 800",
        base.TextTooLongError,
        "larger",
    ),
    (500, "input is too large to process. increase the physical batch size", base.TextTooLongError, "context"),
    (
        501,
        "This server does not support embeddings. Start it with `--embeddings`",
        base.UnknownModelError,
        "an embedding model",
    ),
    (500, "This server does not support embeddings.", base.UnknownModelError, "--embeddings"),
    (429, "Rate limit reached", base.RateLimitedError, "wait"),
    (429, "You exceeded your current quota, insufficient_quota", EmbeddingError, "pay"),
    (400, "Invalid value for 'input'", EmbeddingError, None),
]


@pytest.mark.parametrize(("status", "message", "kind", "hint"), REFUSALS, ids=[each[1][:30] for each in REFUSALS])
async def test_each_refusal_has_its_own_name_and_advice(server, make, slept, status, message, kind, hint):
    server.script.append(error(status, message))
    with pytest.raises(kind) as caught:
        await ask(make(api_key=KEY))
    assert type(caught.value) is kind
    assert (hint or "") in (caught.value.hint or "")
    assert KEY not in f"{caught.value} {caught.value.why} {caught.value.hint}"
    assert (len(server.requests), slept) == (1, []), "a refusal is not tried again while somebody waits"


@pytest.mark.parametrize(
    "body",
    [
        '{"error": "why", "error_type": "x"}',
        '{"object": "error", "message": "why"}',
        '{"detail": "why"}',
        "why",
        '"why"',
    ],
)
async def test_the_servers_words_are_handed_on_whatever_shape_they_have(server, make, body):
    server.script.append(web.Response(status=418, text=body))
    with pytest.raises(EmbeddingError) as caught:
        await ask(make())
    assert caught.value.why == "why"


async def test_neither_texts_nor_key_go_where_the_server_points(server, make):
    server.script.append(web.Response(status=307, headers={"Location": f"{server.url}/embeddings"}))
    with pytest.raises(base.WrongAddressError):
        await ask(make(api_key=KEY))
    assert len(server.requests) == 1


@pytest.mark.parametrize("trouble", [500, 502, 503, 424, "reset", "half"])
async def test_what_may_pass_is_tried_once_more(server, make, slept, trouble):
    server.script.append(web.Response(status=trouble) if isinstance(trouble, int) else trouble)
    assert len(await ask(make())) == 1
    assert (len(server.requests), len(slept)) == (2, 1)


async def test_silence_ends_at_the_deadline(server, make):
    server.script.extend(["hang"] * 3)
    with pytest.raises(base.EmbeddingTimeoutError, match="did not answer within"):
        await ask(make(), deadline=0.5)


async def test_a_server_that_is_not_there(make):
    with pytest.raises(base.UnreachableError) as caught:
        await ask(make(url=f"http://127.0.0.1:{unused_port()}/v1"))
    assert "LKMONGO_EMBEDDING_BASE_URL" in caught.value.hint


# ---------------------------------------------------------------- in bulk


async def test_bulk_keeps_to_what_a_request_may_have_and_learns_of_less(server, make, slept):
    server.most, embedder = 10, make()
    texts = [f"text {number}" for number in range(70)]
    vectors = await collect(embedder, texts)
    np.testing.assert_allclose(vectors, [vector_of(text, MODEL, 384) for text in texts], atol=1e-6)
    sizes = [len(request["input"]) for request in server.requests]
    assert sizes == [32, 16, *[8] * 8, 6]
    assert slept == []
    await embedder.embed(texts[:20], kind="document")
    assert [len(request["input"]) for request in server.requests[len(sizes) :]] == [8, 8, 4]


async def test_long_texts_make_small_requests(server, make):
    await collect(make(), ["x" * 30_000] * 7)
    assert [len(request["input"]) for request in server.requests] == [2, 2, 2, 1]


async def test_texts_before_one_that_is_too_long_are_embedded(server, make):
    server.context = 100
    texts = [f"text {number}" for number in range(21)] + ["x" * 101] + ["after"] * 5
    got = []

    async def take():
        async for part in make().embed_many(texts):
            got.extend(part)

    with pytest.raises(base.TextTooLongError):
        await take()
    assert len(got) == 21
    assert len(server.requests) < 12


@pytest.mark.parametrize("status", [429, 503])
async def test_bulk_waits_as_long_as_the_server_says(server, make, slept, status):
    server.script.extend(error(status, "later", **{"Retry-After": "7"}) for _ in range(2))
    waits = []
    assert len(await collect(make(), ["a"], on_wait=waits.append)) == 1
    assert slept == waits == [7.0, 7.0]


async def test_bulk_asks_a_slow_server_for_less_at_once(server, make, slept, monkeypatch):
    monkeypatch.setattr("lkmongo.embed.remote.REQUEST_SECONDS", 0.25)
    server.script.append("hang")
    vectors = await collect(make(), [f"text {number}" for number in range(32)])
    assert len(vectors) == 32
    sizes = [len(request["input"]) for request in server.requests]
    assert (sizes[0], max(sizes[1:])) == (32, 16)
    assert slept


# ---------------------------------------------------------------- models and their prefixes


CARDS = {
    "nomic-embed-text:latest": (768, "search_query: ", "search_document: "),
    "text-embedding-nomic-embed-text-v1.5": (768, "search_query: ", "search_document: "),
    "intfloat/multilingual-e5-large": (1024, "query: ", "passage: "),
    "intfloat/e5-small-v2": (384, "query: ", "passage: "),
    "BAAI/bge-base-en-v1.5": (768, "Represent this sentence for searching relevant passages: ", ""),
    "bge-m3": (1024, "", ""),
    "snowflake-arctic-embed2": (1024, "query: ", ""),
    "embeddinggemma:300m": (768, "task: search result | query: ", "title: none | text: "),
    "text-embedding-3-large": (3072, "", ""),
    "some-other": (None, "", ""),
}


@pytest.mark.parametrize("name", CARDS)
def test_known_models_have_the_prefixes_of_their_cards(name):
    family = family_of(name)
    assert (family.dimensions, family.query, family.document) == CARDS[name]


def test_instructions_stand_before_queries_alone():
    for name in ("Qwen/Qwen3-Embedding-0.6B", "qwen3-embedding:8b", "multilingual-e5-large-instruct"):
        family = family_of(name)
        assert family.query.startswith("Instruct: ")
        assert family.document == ""
    assert [family_of(f"qwen3-embedding{size}").dimensions for size in (":0.6b", ":4b", "")] == [1024, 2560, None]


def test_the_first_family_that_fits_is_the_closest():
    """A name that a former one hides would never count."""
    assert [family_of(family.name) for family in FAMILIES] == list(FAMILIES)


async def test_queries_and_documents_are_sent_with_their_prefixes(server, make):
    known = make(model="e5-small")
    await known.embed(["x"], kind="query")
    await known.embed(["x"], kind="document")
    await collect(known, ["y"])
    own = make(model="e5-small", query_prefix="q: ", document_prefix="")
    await own.embed(["x"], kind="query")
    await own.embed(["x"], kind="document")
    assert [request["input"] for request in server.requests] == [
        ["query: x"],
        ["passage: x"],
        ["passage: y"],
        ["q: x"],
        ["x"],
    ]


def test_the_recorded_name_says_everything_that_changes_a_stored_vector(make):
    names = [
        make(model="e5-small").model,
        make(model="e5-base").model,
        make(model="e5-small", dimensions=128).model,
        make(model="e5-small", document_prefix="").model,
        make(model="e5-small", document_prefix="passage:").model,
    ]
    assert names[0] == 'openai:e5-small@384 "passage: "'
    assert len(set(names)) == len(names)
    assert make(model="e5-small", query_prefix="q: ").model == names[0], "no stored vector changes with it"


def test_a_floor_holds_for_a_model_used_as_it_was_measured(make):
    assert make(model="e5-small").floor == 0.76
    assert make(model="e5-small", query_prefix="").floor == 0.0
    assert make(model="all-minilm", dimensions=128).floor == 0.0
    assert make(model="e5-large", dimensions=None).floor == make().floor == 0.0


def test_an_unknown_model_needs_its_dimensions(make):
    with pytest.raises(base.UnknownDimensionsError, match="LKMONGO_EMBEDDING_DIMENSIONS is not set") as caught:
        make(dimensions=None)
    assert "lkmongo doctor --only embedder" in caught.value.hint


def test_a_key_that_cannot_be_one_is_not_echoed(make):
    with pytest.raises(SettingsError, match="LKMONGO_EMBEDDING_API_KEY holds a character") as caught:
        make(api_key="sk-sec\u200bret")
    assert "ret" not in f"{caught.value} {caught.value.hint}"


# ---------------------------------------------------------------- the process it runs in


IMPORTS = """
import sys
from lkmongo.embed.choose import embedder_for
from lkmongo.settings import Settings
server = {"LKMONGO_EMBEDDING_BASE_URL": "http://localhost:1/v1", "LKMONGO_EMBEDDING_MODEL": "bge-m3"}
embedder_for(Settings.load(server))
print(sorted({"voyageai", "aiohttp", "numpy", "openai"} & set(sys.modules)))
"""


def test_making_an_embedder_imports_nothing_heavy():
    answer = subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True)
    assert json.loads(answer.stdout.replace("'", '"')) == []


async def test_texts_do_not_reach_a_debug_log(make, caplog):
    caplog.set_level("DEBUG")
    await ask(make(), "my secret illness")
    assert "secret illness" not in caplog.text


async def test_many_calls_share_one_connection(server, make):
    embedder = make()
    await embedder.warm()
    for _ in range(3):
        await asyncio.create_task(ask(embedder))
    assert len(server.connections) == 1
