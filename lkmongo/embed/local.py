"""Embeddings without account or network, by the static model inside the wordllama package.

A text's vector is the mean of its tokens' vectors. The package's two files are read here, without its own loader, which
configures the root logger when imported, takes 1 s instead of 0.3, and pads every text of a batch to the longest: 64
utterances of 4,000 emoji took 2.2 GB instead of 0.2. The vectors are identical to the package's for lower-case text.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkmongo.embed.base import (
    EmbeddingTimeoutError,
    FusionWeights,
    NotInstalledError,
    Similarity,
    TextKind,
    check_texts,
    in_batches,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
_BATCH = 256
_INLINE_CHARACTERS = 500  # under a millisecond: not worth a thread


@dataclass(frozen=True, slots=True)
class _Model:
    tokenizer: Any
    table: NDArray[np.float16]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        vectors = np.empty((len(texts), self.table.shape[1]), dtype=np.float32)
        plain = [_plain(text) for text in texts]
        if _is_little(plain):  # a batch starts a thread for each core, which then stay
            encoded = [self.tokenizer.encode(text, add_special_tokens=False) for text in plain]
        else:
            encoded = self.tokenizer.encode_batch(plain, add_special_tokens=False)
        for row, tokens in enumerate(encoded):
            vectors[row] = self.table[tokens.ids].mean(axis=0, dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


class LocalEmbedder:
    """Embeds locally, with one copy of the model per process.

    The weights are fitted on public sets (`benchmarks/retrieval_public.py`, docs/retrieval.md) and checked on our own
    (`benchmarks/retrieval.py`): 452 questions, phrased differently from the answers and some misheard, on the 250 slots
    of ten people and 86 passages of a shop and a hotel. There, on half of them, the right document is first for 69 % by
    vector, 47 % by words and 71 % by both, and among the first five for 87, 63 and 88 %.

    The floor is from our own set. It hides 3 % of the answers that would be among the first five, and lets something be
    found for 55 % of the questions on other subjects among a person's slots, 50 % among the passages; at 0.20 it would
    hide 9 %. Lower case and the split of labels put 2 % more of the answers first.
    """

    model = "wordllama-l2-supercat-lower@256"
    dimensions = 256
    weights = FusionWeights(vector=0.25, text=0.75)
    floor = 0.15
    similarity: Similarity = "cosine"
    together = False

    async def warm(self) -> None:
        """Read the model (34 MB) unless it is loaded."""
        if _loaded is None:
            await asyncio.to_thread(load)

    async def embed(
        self,
        texts: Sequence[str],
        *,
        kind: TextKind,  # noqa: ARG002
        deadline: float | None = None,
    ) -> NDArray[np.float32]:
        """Embed texts; queries and documents are treated alike. See `Embedder.embed`."""
        texts = check_texts(texts)
        if _loaded is not None and _is_little(texts):
            return _loaded.embed(texts)
        try:
            async with asyncio.timeout(deadline):
                return await asyncio.to_thread(lambda: load().embed(texts))
        except TimeoutError as error:
            raise EmbeddingTimeoutError(
                f"the local model took longer than {deadline:g} s", hint="the first call loads it: call warm() before"
            ) from error

    def embed_many(
        self,
        texts: Sequence[str],
        *,
        documents: Sequence[int] | None = None,  # noqa: ARG002
        on_wait: Callable[[float], None] | None = None,  # noqa: ARG002
    ) -> AsyncIterator[NDArray[np.float32]]:
        """Embed documents, 256 at a time. See `Embedder.embed_many`."""
        return in_batches(self, texts, _BATCH)

    async def close(self) -> None:
        """Does nothing: the model stays loaded."""


def _is_little(texts: Sequence[str]) -> bool:
    return sum(map(len, texts)) <= _INLINE_CHARACTERS


def _plain(text: str) -> str:
    """In lower case, as speech recognition writes, and with the words of a label separated."""
    return text.lower().replace("_", " ").strip() or text


_loaded: _Model | None = None
_lock = threading.Lock()


def load() -> _Model:
    """Read the model unless this process has it, or inherited it from the one that it was forked from.

    Starts no threads of its own. The weights are mapped: all processes of a machine share the pages of the file.

    Raises:
        NotInstalledError: the package is missing or damaged.
    """
    global _loaded  # noqa: PLW0603
    with _lock:
        if _loaded is None:
            _loaded = _read(_package())
        return _loaded


def _package() -> Path:
    from importlib.util import find_spec

    spec = find_spec("wordllama")  # does not import it
    if spec is None or not spec.submodule_search_locations:
        raise NotInstalledError(
            "local embeddings are not installed",
            hint='pip install "lkmongo[local]", or set VOYAGE_API_KEY to use Voyage',
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _read(package: Path) -> _Model:
    try:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(package / _TOKENIZER))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return _Model(tokenizer, _mapped(package / _WEIGHTS, "embedding.weight"))
    except Exception as error:  # tokenizers raises plain Exception for a missing or damaged file
        raise NotInstalledError(
            "the local embedding model cannot be read",
            why=str(error),
            hint='pip install --force-reinstall "lkmongo[local]"',
        ) from error


def _mapped(file: Path, name: str) -> NDArray[np.float16]:
    """One tensor of a safetensors file, read-only and mapped: the format's own library copies it.

    The file is the length of a header in 8 bytes, the header as JSON, and the data.
    """
    import numpy as np

    with file.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    if sys.platform != "win32":
        mapped.madvise(mmap.MADV_WILLNEED)  # otherwise the first turns would wait for the disk
    data = 8 + int.from_bytes(mapped[:8], "little")
    tensor = json.loads(mapped[8:data])[name]
    if tensor["dtype"] != "F16":
        raise ValueError(f"{name} in {file.name} is {tensor['dtype']} instead of F16")
    rows, columns = tensor["shape"]
    return np.frombuffer(mapped, np.float16, rows * columns, data + tensor["data_offsets"][0]).reshape(rows, columns)
