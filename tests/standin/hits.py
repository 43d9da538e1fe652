"""What a search yields, and an order for equal scores that nobody can rely on."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

from tests.standin.values import identity


@dataclass(frozen=True)
class Hit:
    """One document that was found: its `_id` in the index, and its score."""

    id: Any
    score: float


def draw(seed: int, document_id: Any) -> int:
    """A number for a document that depends on the seed, not on the order of ids."""
    return zlib.crc32(identity(document_id), seed)


def ranked(hits: list[Hit], seed: int) -> list[Hit]:
    """Best first; the service promises no order among equals, so the seed decides."""
    return sorted(hits, key=lambda hit: (-hit.score, draw(seed, hit.id)))
