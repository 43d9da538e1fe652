"""People, slots and documents for the growth curves, written straight and quickly."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import bson
import numpy as np
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from numpy.typing import NDArray
from pymongo.collection import Collection
from pymongo.database import Database

from benchmarks.call_data import WORDS
from lkmongo.embed.base import Embedder
from lkmongo.embed.vectors import to_bson
from lkmongo.model import Passage, UserScope, now, slot_words
from lkmongo.store.knowledge.ingest import Library
from lkmongo.store.knowledge.knowledge import ORIGIN, Document
from lkmongo.store.knowledge.passages import content_hash

BATCH = 5_000
PASSAGES_OF_A_DOCUMENT = 50


def sentence(rng: random.Random, least: int = 5, most: int = 12) -> str:
    """Words of a call in no order; their vocabulary grows a little with the numbers among them."""
    return " ".join(rng.choices(WORDS, k=rng.randint(least, most))) + f" {rng.randrange(1_000)}"


async def write_slots(database: Database[Any], scope: UserScope, count: int, embedder: Embedder) -> None:
    """Give one person `count` slots with their vectors, the newest a second ago."""
    rng, end = random.Random(count), now()
    labels = [f"topic_{number:05d}" for number in range(count)]
    contents = [sentence(rng) for _ in labels]
    texts = [f"{slot_words(label)}: {content}" for label, content in zip(labels, contents, strict=True)]
    vectors = [vector async for batch in embedder.embed_many(texts) for vector in batch]
    database.users.insert_one(_user(scope.user_id, end) | {"memory_version": count})
    documents = (
        _slot(scope.user_id, label, content, end - timedelta(seconds=number + 1), vector, embedder.model)
        for number, (label, content, vector) in enumerate(zip(labels, contents, vectors, strict=True))
    )
    insert(database.memories, documents)


def write_people(
    database: Database[Any], numbers: range, model: str, dimensions: int, *, slots: int = 3, turns: int = 2
) -> None:
    """Write people with a profile, so many slots with vectors, and a call of so many turns each."""
    rng, end = random.Random(numbers.start), now()
    vectors = np.random.default_rng(numbers.start).standard_normal((1_000, dimensions), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    insert(database.users, (_user(person(number), end) for number in numbers))
    insert(
        database.memories,
        (
            _slot(person(number), f"topic_{slot}", sentence(rng), end, vectors[rng.randrange(1_000)], model)
            for number in numbers
            for slot in range(slots)
        ),
    )
    insert(database.sessions, (_session(number, end) for number in numbers))
    insert(database.turns, (_turn(number, seq, end, sentence(rng)) for number in numbers for seq in range(turns)))


def person(number: int) -> str:
    """The id of a person."""
    return f"person-{number:07d}"


def library(count: int) -> Library:
    """Documents of fifty passages of three to four sentences each, `count` passages in all."""
    rng = random.Random(count)
    documents = []
    for number, start in enumerate(range(0, count, PASSAGES_OF_A_DOCUMENT)):
        source = f"document-{number:05d}.md"
        chunks = range(min(PASSAGES_OF_A_DOCUMENT, count - start))
        passages = tuple(
            Passage(source, chunk, f"Part {chunk} of document {number}", ". ".join(sentence(rng, 8, 20) for _ in "abc"))
            for chunk in chunks
        )
        documents.append(Document(source, passages))
    return Library(documents, present={document.source for document in documents})


def write_passages(database: Database[Any], tenant: str, given: Library, model: str, dimensions: int) -> None:
    """Write the passages of documents as they are stored, with vectors of no meaning."""
    vectors = np.random.default_rng(1).standard_normal((1_000, dimensions), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    passages = (passage for document in given.documents for passage in document.passages)
    insert(
        database.knowledge,
        (
            {
                "tenant_id": tenant,
                "source": passage.source,
                "chunk": passage.chunk,
                "origin": ORIGIN,
                "title": passage.title,
                "content": passage.content,
                "content_hash": content_hash(passage),
                "root": None,
                "updated_at": now(),
                "embedding": to_bson(vectors[number % 1_000]),
                "embedding_model": model,
            }
            for number, passage in enumerate(passages)
        ),
    )


def insert(collection: Collection[Any], documents: Iterator[dict[str, Any]]) -> None:
    """Insert documents in batches, encoded beforehand."""
    batch: list[RawBSONDocument] = []
    for document in documents:
        batch.append(RawBSONDocument(bson.encode({"_id": ObjectId()} | document)))
        if len(batch) == BATCH:
            collection.insert_many(batch, ordered=False)
            batch = []
    if batch:
        collection.insert_many(batch, ordered=False)


def _scope(user: str) -> dict[str, Any]:
    return {"tenant_id": "default", "user_id": user}


def _user(user: str, moment: Any) -> dict[str, Any]:
    return _scope(user) | {
        "name": f"Name of {user}",
        "email": f"{user}@example.com",
        "preferences": {"language": "English", "timezone": "Europe/Berlin"},
        "created_at": moment,
        "last_seen_at": moment,
        "memory_version": 1,
        "last_session": {"at": moment, "gist": "asked where the parcel is; wants it sent to another address"},
    }


def _slot(user: str, label: str, content: str, moment: Any, vector: NDArray[np.float32], model: str) -> dict[str, Any]:
    return _scope(user) | {
        "memory_type": label,
        "content": content,
        "label_words": slot_words(label),
        "created_at": moment,
        "updated_at": moment,
        "embedding": to_bson(vector),
        "embedding_model": model,
    }


def _session(number: int, moment: Any) -> dict[str, Any]:
    return _scope(person(number)) | {
        "session_id": f"RM_{number:012x}",
        "room_name": f"room-{number}",
        "status": "complete",
        "started_at": moment - timedelta(seconds=number % 100_000),
        "ended_at": moment,
        "close_reason": "hang-up",
        "report": {"job_id": f"AJ_{number:012x}", "duration_ms": 7_000, "user_turns": 1},
    }


def _turn(number: int, seq: int, moment: Any, content: str) -> dict[str, Any]:
    return _scope(person(number)) | {
        "session_id": f"RM_{number:012x}",
        "seq": seq,
        "created_at": moment,
        "item_id": f"item_{number:x}_{seq}",
        "kind": "message",
        "role": "user" if seq % 2 else "assistant",
        "content": content,
        "is_error": False,
        "interrupted": False,
        "metrics": {"started_speaking_at": 1.0, "stopped_speaking_at": 3.0},
    }
