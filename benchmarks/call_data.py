"""Calls for a benchmark: as the recorder writes them, many of them, quickly."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.database import Database

WORDS = [
    "the",
    "order",
    "parcel",
    "arrives",
    "on",
    "Tuesday",
    "please",
    "tell",
    "me",
    "where",
    "it",
    "is",
    "thank",
    "you",
    "remember",
    "that",
    "my",
    "favorite",
    "color",
    "is",
    "teal",
    "we",
    "can",
    "send",
    "it",
    "again",
    "to",
    "another",
    "address",
    "of",
    "course",
    "I",
    "will",
    "look",
    "that",
    "up",
    "for",
    "you",
    "one",
    "moment",
    "opening",
    "hours",
    "are",
    "from",
    "nine",
    "to",
    "six",
    "and",
    "on",
    "Saturdays",
    "until",
    "two",
    "Grüße",
    "aus",
    "München",
    "naïve",
    "café",
]
TOOLS = ("search_knowledge", "remember_detail", "recall_detail", "lookup_order", "update_profile")
BATCH = 5_000


def fill(db: Database[Any], sessions: int, turns: int, *, tenants: int = 1, days: int = 30, seed: int = 1) -> None:
    """Write `sessions` calls of `turns` turns each into `db`, evenly over the last `days` days."""
    rng = random.Random(seed)
    sentences = [" ".join(rng.choices(WORDS, k=rng.randint(4, 30))) + "." for _ in range(2_000)]
    end = datetime.now(UTC).replace(microsecond=0)
    held: tuple[list[RawBSONDocument], list[RawBSONDocument]] = ([], [])
    for number in range(sessions):
        began = end - timedelta(days=days) * (1 - number / sessions)
        held[0].append(_raw(_session(number, began, turns, tenants)))
        held[1].extend(_raw(turn) for turn in _turns(number, began, turns, tenants, sentences, rng))
        if len(held[1]) >= BATCH or number == sessions - 1:
            for collection, documents in zip((db["sessions"], db["turns"]), held, strict=True):
                _insert(collection, documents)
                documents.clear()


def _insert(collection: Collection[Any], documents: list[RawBSONDocument]) -> None:
    if documents:
        collection.insert_many(documents, ordered=False)


def _raw(document: dict[str, Any]) -> RawBSONDocument:
    return RawBSONDocument(bson.encode(document))


def _scope(number: int, tenants: int) -> dict[str, str]:
    tenant = "default" if number % tenants == 0 else f"tenant-{number % tenants}"
    return {"tenant_id": tenant, "user_id": f"u-{number * 7919 % 10_000:05d}", "session_id": f"RM_{number:012x}"}


def _session(number: int, began: datetime, turns: int, tenants: int) -> dict[str, Any]:
    ended = began + timedelta(seconds=7 * turns)
    return {
        "_id": ObjectId(),
        **_scope(number, tenants),
        "room_name": f"room-{number}",
        "status": "interrupted" if number % 50 == 0 else "complete",
        "started_at": began,
        "ended_at": ended,
        "close_reason": "hang-up",
        "report": {
            "job_id": f"AJ_{number:012x}",
            "room_id": f"RM_{number:012x}",
            "room": f"room-{number}",
            "audio_recording_path": None,
            "audio_recording_started_at": None,
            "options": {
                "allow_interruptions": True,
                "discard_audio_if_uninterruptible": True,
                "min_interruption_duration": 0.5,
                "min_interruption_words": 0,
                "min_endpointing_delay": 0.5,
                "max_endpointing_delay": 3.0,
                "max_tool_steps": 3,
                "user_away_timeout": 15.0,
                "preemptive_generation": {"enabled": True},
            },
            "timestamp": ended.timestamp(),
            "usage": None,
            "sdk_version": "1.8.9",
            "agent_name": "lkmongo-agent",
            "tags": [],
            "duration_ms": 7_000 * turns,
            "user_turns": turns // 2,
            "errors": {"llm": 0, "stt": 0, "tts": 0, "realtime": 0, "interruption": 0},
            "close_reason": "CR_USER_INITIATED",
        },
    }


def _turns(
    number: int, began: datetime, turns: int, tenants: int, sentences: list[str], rng: random.Random
) -> Iterator[dict[str, Any]]:
    scope = _scope(number, tenants)
    for seq in range(turns):
        head = {
            "_id": ObjectId(),
            **scope,
            "seq": seq,
            "created_at": began + timedelta(seconds=7 * seq, milliseconds=seq),
        }
        if seq % 10 == 8:
            yield head | {
                "item_id": f"item_{number:x}_{seq}",
                "kind": "tool",
                "name": TOOLS[rng.randrange(len(TOOLS))],
                "arguments": '{"query": "opening hours"}',
                "output": rng.choice(sentences),
                "is_error": rng.random() < 0.02,
                "interrupted": False,
                "metrics": {"seconds": round(rng.lognormvariate(-3, 1), 3)},
            }
        elif seq % 2:
            yield head | {
                "item_id": f"item_{number:x}_{seq}",
                "kind": "message",
                "role": "user",
                "content": rng.choice(sentences),
                "is_error": False,
                "interrupted": False,
                "metrics": {
                    "started_speaking_at": began.timestamp() + 7 * seq,
                    "stopped_speaking_at": began.timestamp() + 7 * seq + 3,
                    "transcription_delay": rng.lognormvariate(-1.5, 0.4),
                    "end_of_turn_delay": rng.lognormvariate(-0.7, 0.3),
                },
            }
        else:
            yield head | {
                "item_id": f"item_{number:x}_{seq}",
                "kind": "message",
                "role": "assistant",
                "content": rng.choice(sentences),
                "is_error": False,
                "interrupted": rng.random() < 0.05,
                "metrics": {
                    "llm_node_ttft": rng.lognormvariate(-0.9, 0.4),
                    "tts_node_ttfb": rng.lognormvariate(-1.6, 0.3),
                    "e2e_latency": rng.lognormvariate(0.1, 0.35),
                },
            }
