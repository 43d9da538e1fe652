"""What drives mem0 in its own environment: a line of JSON to do on standard input, a line with what came of it back.

    .bench/mem0/bin/python benchmarks/memory_mem0.py FOLDER

It is used as its documentation says where no language model is to be asked: `Memory.add(..., infer=False)`, the vector
store Qdrant in a folder, `Memory.search` with its own threshold. Its default embedder is a service, and those that run
here are downloaded at run time; so it embeds with the model that lkmongo embeds with, through its LangChain interface.
The words of its hybrid search are counted by fastembed, whose list of stop words is written here, as it would be
downloaded. This knows nothing of lkmongo, and takes its time itself.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LIMIT = 5
HOME = Path(sys.argv[1])
os.environ |= {"MEM0_TELEMETRY": "False", "MEM0_DIR": str(HOME), "OPENAI_API_KEY": "not-used", "HF_HUB_OFFLINE": "1"}

import fastembed  # type: ignore[import-not-found]  # noqa: E402
import numpy as np  # noqa: E402
from bm25s.stopwords import STOPWORDS_EN  # noqa: E402
from langchain_core.embeddings import Embeddings  # noqa: E402
from mem0 import Memory  # type: ignore[import-not-found]  # noqa: E402
from safetensors import safe_open  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402


class Wordllama(Embeddings):
    """The static model inside the package wordllama: a text's vector is the mean of its tokens', of unit length."""

    def __init__(self) -> None:
        package = Path(str(find_spec("wordllama").submodule_search_locations[0]))  # type: ignore[union-attr,index]
        self._tokenizer = Tokenizer.from_file(str(package / "tokenizers/l2_supercat_tokenizer_config.json"))
        with safe_open(package / "weights/l2_supercat_256.safetensors", framework="np") as file:
            self._table = file.get_tensor("embedding.weight")

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        vector = self._table[self._tokenizer.encode(text.lower(), add_special_tokens=False).ids].mean(0, "float32")
        return [float(number) for number in vector / np.linalg.norm(vector)]


def open_memory() -> Any:
    """As in its documentation, all of it in the folder."""
    words = HOME / "bm25"
    words.mkdir(parents=True, exist_ok=True)
    (words / "english.txt").write_text("\n".join(STOPWORDS_EN), encoding="utf-8")
    counting = fastembed.SparseTextEmbedding.__init__
    fastembed.SparseTextEmbedding.__init__ = functools.partialmethod(counting, specific_model_path=str(words))
    store = {"path": str(HOME / "qdrant"), "on_disk": True, "embedding_model_dims": 256, "collection_name": "memories"}
    config = {
        "vector_store": {"provider": "qdrant", "config": store},
        "embedder": {"provider": "langchain", "config": {"model": Wordllama(), "embedding_dims": 256}},
        "history_db_path": str(HOME / "history.db"),
    }
    return Memory.from_config(config)


def do(memory: Any, work: str, given: Any) -> Any:
    """One piece of work."""
    match work:
        case "write":
            for each in given:
                text = f"{each['label'].replace('_', ' ')}: {each['text']}"
                memory.add(text, user_id=each["person"], infer=False, metadata={"said_on": each["at"]})
            return len(given)
        case "ask":
            return [ask(memory, each) for each in given]
    raise ValueError(work)


def ask(memory: Any, question: dict[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    found = memory.search(question["text"], top_k=LIMIT, filters={"user_id": question["person"]})["results"]
    ms = (time.perf_counter() - began) * 1000
    hits = [{"text": each["memory"], "since": (each.get("metadata") or {}).get("said_on")} for each in found]
    told = "\n".join(f"- {each['memory']}" for each in found)
    return {"ms": ms, "hits": hits, "told": told, "briefed": told}  # its guide searches for each thing that is said


def main() -> None:
    """Serve standard input until it ends."""
    answer, sys.stdout = sys.stdout, sys.stderr  # notices of the library go elsewhere

    def say(what: Any) -> None:
        answer.write(json.dumps(what) + "\n")
        answer.flush()

    memory = open_memory()
    say({name: version(name) for name in ("mem0ai", "qdrant-client", "wordllama", "fastembed")})
    for line in sys.stdin:
        say(do(memory, *json.loads(line)))


if __name__ == "__main__":
    main()
