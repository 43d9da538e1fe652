"""Voyage over real HTTP, against a server that speaks its protocol: answers, refusals, limits and silence."""

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
from lkmongo.embed.voyage import VoyageEmbedder
from lkmongo.errors import AuthenticationError, EmbeddingError, InvalidTextError
from tests.embedding_services import KEY, Voyage, refusal, serving, vector_of


@pytest.fixture
async def voyage():
    async with serving(Voyage()) as service:
        yield service


@pytest.fixture
def slept():
    return []


@pytest.fixture
async def make(voyage, slept):
    made = []

    async def sleep(seconds):
        slept.append(seconds)

    def build(key=KEY, url=None, **options):
        made.append(VoyageEmbedder(key, base_url=url or voyage.url, sleep=sleep, **options))
        return made[-1]

    yield build
    for embedder in made:
        await embedder.close()


async def ask(embedder, text="where is my parcel", deadline=30.0):
    return await embedder.embed([text], kind="query", deadline=deadline)


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize("as_lists", [False, True])
async def test_texts_become_unit_vectors_in_their_order(voyage, make, as_lists):
    voyage.as_lists = as_lists
    vectors = await make().embed(["first", "second"], kind="document")
    expected = [vector_of("first", "document", 512), vector_of("second", "document", 512)]
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


async def test_the_request_says_model_kind_and_dimensions_and_forbids_truncation(voyage, make):
    await ask(make(model="voyage-4-large", dimensions=256))
    (request,) = voyage.requests
    assert request["model"] == "voyage-4-large"
    assert request["input_type"] == "query"
    assert request["output_dimension"] == 256
    assert request["truncation"] is False
    await make(model="voyage-law-2", dimensions=1024).embed(["x"], kind="document")
    assert voyage.requests[1]["input_type"] == "document"
    assert not voyage.requests[1].get("output_dimension")


async def test_one_connection_serves_many_calls_from_many_tasks(voyage, make):
    embedder = make()
    await embedder.warm()
    for n in range(5):
        await asyncio.create_task(ask(embedder, f"question {n}"))
    assert len(voyage.requests) == 5
    assert len(voyage.connections) == 1


async def test_warming_opens_the_connection_that_the_first_call_uses(make, voyage):
    embedder = make()
    await embedder.warm()
    await ask(embedder)
    assert voyage.warmed == 1
    assert len(voyage.connections) == 1


async def test_it_can_be_used_again_after_closing(make):
    embedder = make()
    await ask(embedder)
    await embedder.close()
    assert (await ask(embedder)).shape == (1, 512)


async def test_an_empty_text_is_refused_before_anything_is_sent(voyage, make):
    with pytest.raises(InvalidTextError, match="text 0 of 1"):
        await ask(make(), " ")
    assert voyage.requests == []


async def test_a_lone_surrogate_is_sent_as_the_replacement_character(voyage, make):
    await ask(make(), "a\ud83db")
    assert voyage.requests[0]["input"] == ["a\ufffdb"]


async def test_no_texts_need_no_request(voyage, make):
    assert (await make().embed([], kind="document")).shape == (0, 512)
    assert [part async for part in make().embed_many([])] == []
    assert voyage.requests == []


# ---------------------------------------------------------------- refusals

REFUSALS = [
    (401, "Provided API key is invalid.", AuthenticationError, "VOYAGE_API_KEY"),
    (403, "Forbidden for your IP address.", AuthenticationError, "VOYAGE_API_KEY"),
    (429, "Rate limit", base.RateLimitedError, "payment method"),
    (400, "Model voyage-4-lite is not supported. Supported models are ['a'].", base.UnknownModelError, "MODEL"),
    (410, "Retired.", base.UnknownModelError, "LKMONGO_EMBEDDING_MODEL"),
    (400, "Value '512' supplied for argument 'output_dimension' is not valid", base.UnknownModelError, "DIMENSIONS"),
    (400, "The example at index 0 has too many tokens for the model's context", base.TextTooLongError, "shorter"),
    (404, None, base.WrongAddressError, "VOYAGE_BASE_URL"),
]


@pytest.mark.parametrize(("status", "detail", "kind", "hint"), REFUSALS)
async def test_each_refusal_has_its_own_name_and_advice(voyage, make, slept, status, detail, kind, hint):
    voyage.script.append(refusal(status, detail) if detail else web.Response(status=status, text="<h1>?</h1>"))
    with pytest.raises(kind) as caught:
        await ask(make())
    assert hint in caught.value.hint
    assert len(voyage.requests) == 1, "a refusal is not tried again while somebody waits"
    assert slept == []


NAMELESS = {
    "400": lambda: refusal(400, "Something else."),
    "422": lambda: refusal(422, "Malformed."),
    "418": lambda: web.Response(status=418, text="teapot"),
    "no detail": lambda: web.json_response({"unexpected": True}, status=402),
    "no vectors": lambda: web.json_response({"data": [], "usage": {"total_tokens": 0}}),
    "not JSON": lambda: web.Response(text="<html>", content_type="text/html"),
    "another JSON": lambda: web.json_response(["hello"]),
    "nothing": lambda: web.Response(status=204),
}


@pytest.mark.parametrize("answer", NAMELESS.values(), ids=NAMELESS)
async def test_what_has_no_name_is_still_an_embedding_error(voyage, make, answer):
    voyage.script.append(answer())
    with pytest.raises(EmbeddingError):
        await ask(make())


async def test_fewer_vectors_than_texts_are_not_taken(voyage, make):
    one = {"data": [{"embedding": [1.0] * 512, "index": 0}], "usage": {"total_tokens": 1}}
    voyage.script.append(web.json_response(one))
    with pytest.raises(EmbeddingError, match="1 vectors for 2 texts"):
        await make().embed(["a", "b"], kind="document")


async def test_a_vector_that_is_no_direction_is_not_taken(voyage, make):
    zero = {"data": [{"embedding": [0.0] * 512, "index": 0}], "usage": {"total_tokens": 1}}
    voyage.script.append(web.json_response(zero))
    with pytest.raises(EmbeddingError, match="zero or not a number"):
        await ask(make())


async def test_a_key_that_the_service_echoes_is_not_shown(make):
    wrong = make(key="pa-wrong-but-secret")
    with pytest.raises(AuthenticationError) as caught:
        await ask(wrong)
    assert "Provided API key *** is invalid" in caught.value.why
    assert "pa-wrong-but-secret" not in f"{caught.value} {caught.value.why} {caught.value.hint}"


async def test_vectors_of_another_length_are_not_taken(voyage, make):
    voyage.dimensions = 1024
    with pytest.raises(base.UnknownModelError, match="1024 numbers, not 512"):
        await ask(make())


async def test_nobody_listening_is_said(make):
    nowhere = make(url=f"http://127.0.0.1:{unused_port()}/v1")
    with pytest.raises(base.UnreachableError) as caught:
        await ask(nowhere)
    assert caught.value.why
    with pytest.raises(base.UnreachableError):
        await nowhere.warm()


# ---------------------------------------------------------------- in a turn


@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")  # voyageai, for "half"
@pytest.mark.parametrize("trouble", [502, 503, 504, "reset", "half"])
async def test_what_may_pass_is_tried_once_more(voyage, make, slept, trouble):
    voyage.script.append(web.Response(status=trouble) if isinstance(trouble, int) else trouble)
    assert (await ask(make())).shape == (1, 512)
    assert len(voyage.requests) == 2
    assert len(slept) == 1
    assert 0 < slept[0] < 0.1


async def test_it_is_tried_once_more_and_no_more(voyage, make):
    voyage.script.extend([web.Response(status=503) for _ in range(3)])
    with pytest.raises(base.OverloadedError, match="503"):
        await ask(make())
    assert len(voyage.requests) == 2


async def test_a_request_that_hangs_leaves_time_for_another(voyage, make):
    embedder = make()
    await embedder.warm()
    voyage.script.append("hang")
    assert (await ask(embedder, deadline=2.0)).shape == (1, 512)
    assert len(voyage.requests) == 2


async def test_silence_ends_at_the_deadline(voyage, make):
    embedder = make()
    await embedder.warm()
    voyage.script.extend(["hang", "hang", "hang"])
    async with asyncio.timeout(20):  # far beyond the deadline: it is the embedder that has to end it
        with pytest.raises(base.EmbeddingTimeoutError, match="did not answer within"):
            await ask(embedder, deadline=0.3)
    assert len(voyage.requests) <= 2


async def test_a_deadline_that_has_passed_sends_nothing(voyage, make):
    embedder = make()
    await embedder.warm()
    with pytest.raises(base.EmbeddingTimeoutError):
        await ask(embedder, deadline=0.0)
    assert voyage.requests == []


async def test_a_caller_who_hangs_up_leaves_the_connection_pool_usable(voyage, make):
    embedder = make()
    await embedder.warm()
    voyage.script.append("hang")
    turn = asyncio.create_task(ask(embedder))
    await voyage.asked.wait()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert (await ask(embedder)).shape == (1, 512)


# ---------------------------------------------------------------- in bulk


async def collect(embedder, texts, **options):
    return np.concatenate([part async for part in embedder.embed_many(texts, **options)])


async def test_bulk_keeps_to_a_thousand_texts_a_request(voyage, make):
    texts = [f"text {n}" for n in range(2_500)]
    vectors = await collect(make(dimensions=256), texts)
    assert [len(request["input"]) for request in voyage.requests] == [1000, 1000, 500]
    assert {request["input_type"] for request in voyage.requests} == {"document"}
    np.testing.assert_allclose(vectors[1700], vector_of("text 1700", "document", 256), atol=1e-6)


async def test_bulk_keeps_to_the_models_tokens_a_request(voyage, make):
    texts = ["x" * 3_600] * 250  # counted as 1,201 tokens each
    await collect(make(model="voyage-4-large", dimensions=256), texts)
    assert [len(request["input"]) for request in voyage.requests] == [99, 99, 52]
    voyage.requests.clear()
    await collect(make(model="voyage-4-lite", dimensions=256), texts)
    assert [len(request["input"]) for request in voyage.requests] == [250]


async def test_a_rate_limit_is_waited_for_as_long_as_the_service_says(voyage, make, slept):
    voyage.script.extend([refusal(429, "slow down", Retry_After="7"), refusal(429, "slow down"), None])
    waits = []
    vectors = await collect(make(), ["a", "b"], on_wait=waits.append)
    assert len(vectors) == 2
    assert waits == slept == [7.0, 20.0]


async def test_a_request_larger_than_the_free_tiers_minute_is_cut_after_the_first_refusal(voyage, make, slept):
    voyage.free_tier = True
    texts = ["y" * 3_000 for _ in range(60)]  # 45,000 tokens by the server's count
    vectors = await collect(make(dimensions=256), texts)
    assert len(vectors) == 60
    assert len(voyage.requests[0]["input"]) == 60
    assert slept == [20.0], "the smaller requests pass"


async def test_what_came_before_a_failure_has_been_handed_over(voyage, make):
    voyage.script.extend([None, refusal(401, "revoked")])
    parts = make(dimensions=256).embed_many([f"text {n}" for n in range(1_500)])
    assert len(await anext(parts)) == 1000
    with pytest.raises(AuthenticationError):
        await anext(parts)


async def test_passing_failures_are_tried_again_with_growing_pauses(voyage, make, slept):
    voyage.script.extend([web.Response(status=503), "reset", web.Response(status=502)])
    assert len(await collect(make(), ["a"])) == 1
    assert len(slept) == 3
    assert slept[0] < slept[1] < slept[2]


async def test_bulk_gives_up_when_nothing_comes_for_a_quarter_of_an_hour(voyage, make, slept):
    voyage.script.extend(refusal(429, "no") for _ in range(100))
    with pytest.raises(base.RateLimitedError):
        await collect(make(), ["a"])
    assert 800 < sum(slept) <= 900


async def test_a_refusal_that_will_not_pass_ends_bulk_at_once(voyage, make, slept):
    voyage.script.append(refusal(400, "The example at index 3 has too many tokens"))
    with pytest.raises(base.TextTooLongError):
        await collect(make(), ["a"])
    assert slept == []


# ---------------------------------------------------------------- with context


async def test_a_model_with_context_embeds_a_document_in_one_request(voyage, make):
    embedder = make(model="voyage-context-3", dimensions=256)
    assert (embedder.together, make().together) == (True, False)
    assert embedder.model == "voyage-context-3@256"
    vectors = await collect(embedder, ["a", "b", "c"], documents=[2, 1])
    (request,) = voyage.requests
    assert request["inputs"] == [["a", "b"], ["c"]]
    assert (request["model"], request["input_type"], request["output_dimension"]) == (
        "voyage-context-3",
        "document",
        256,
    )
    expected = [vector_of("aa | b", "document", 256), vector_of("ba | b", "document", 256)]
    np.testing.assert_allclose(vectors, [*expected, vector_of("c", "document", 256)], atol=1e-6)


async def test_queries_and_texts_of_their_own_are_documents_of_one_passage(voyage, make):
    embedder = make(model="voyage-context-3")
    await embedder.embed(["where is it"], kind="query")
    await embedder.embed(["a", "b"], kind="document")
    await collect(embedder, ["a", "b"])
    assert [request["inputs"] for request in voyage.requests] == [[["where is it"]], [["a"], ["b"]], [["a"], ["b"]]]
    assert [request["input_type"] for request in voyage.requests] == ["query", "document", "document"]
    assert voyage.requests[0]["output_dimension"] == 512


async def test_documents_longer_than_the_models_context_are_cut_between_passages(voyage, make):
    """A request has at most 32,000 tokens, three bytes each; the parts of a document are of similar length."""
    texts = ["x" * 1_200] * 200 + ["short"] * 3
    vectors = await collect(make(model="voyage-context-3"), texts, documents=[200, 1, 2])
    assert len(vectors) == 203
    sent = [[len(document) for document in request["inputs"]] for request in voyage.requests]
    assert [size for request in sent for size in request] == [67, 67, 66, 1, 2]
    again = len(voyage.requests)
    await collect(make(model="voyage-context-3"), texts, documents=[200, 1, 2])
    assert voyage.requests[again:] == voyage.requests[:again], "the same passages have the same context each time"


async def test_other_models_embed_each_passage_by_itself(voyage, make):
    await collect(make(), ["a", "b", "c"], documents=[2, 1])
    assert [request["input"] for request in voyage.requests] == [["a", "b", "c"]]


@pytest.mark.parametrize("vectors", [[[[1.0]]], [[[1.0]], [[1.0], [1.0]]]])
async def test_vectors_of_other_passages_are_not_taken(voyage, make, vectors):
    rows = [{"data": [{"embedding": row * 512, "index": 0} for row in each], "index": 0} for each in vectors]
    voyage.script.append(web.json_response({"data": rows, "usage": {"total_tokens": 1}}))
    with pytest.raises(EmbeddingError, match="other numbers of vectors"):
        await collect(make(model="voyage-context-3"), ["a", "b", "c"], documents=[2, 1])


# ---------------------------------------------------------------- the process it runs in

IMPORTS = """
import sys
from lkmongo.embed.choose import create_embedder
create_embedder("voyage", voyage_key="pa-x")
print(sorted({"voyageai", "aiohttp", "numpy", "langchain_core"} & set(sys.modules)))
"""


def test_making_an_embedder_imports_nothing_heavy():
    answer = subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True)
    assert json.loads(answer.stdout.replace("'", '"')) == []


async def test_texts_do_not_reach_a_debug_log(make, caplog):
    caplog.set_level("DEBUG")
    await ask(make(), "my secret illness")
    assert "secret illness" not in caplog.text
