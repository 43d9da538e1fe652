"""The floor that is used with scalar quantization is the one that the quantizer calls for."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quantization import Quantizer, ask, found_off_topic, hidden
from benchmarks.retrieval_sets import load
from lkmongo.embed.local import LocalEmbedder
from lkmongo.search.atlas_queries import quantized_floor


@pytest.mark.parametrize("kind", ["knowledge", "memories"])
async def test_the_floor_moves_by_what_the_quantizer_adds(kind):
    embedder = LocalEmbedder()
    asked = ask([scope for scope in await load(embedder) if scope.kind == kind])
    error = np.concatenate([each.seen - each.true for each in asked])
    floor = quantized_floor(embedder, "scalar")
    assert floor - embedder.floor == pytest.approx(error.mean(), abs=0.001)
    for share in (hidden, found_off_topic):
        before, after = share(asked, embedder.floor, quantized=False), share(asked, floor, quantized=True)
        assert after == pytest.approx(before, abs=0.02), "it hides and finds as much as the floor without"


def test_the_more_dimensions_the_smaller_the_error():
    worst = []
    for dimensions in (256, 512, 1024):
        vectors = np.random.default_rng(1).standard_normal((400, dimensions)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        seen = Quantizer.of(vectors).cosines(vectors[:50], vectors)
        worst.append(float(np.abs(seen - vectors[:50] @ vectors.T).max()))
    assert 0.075 > worst[0] > worst[1] > worst[2] > 0
