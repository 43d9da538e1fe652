"""One process that reads the documents of all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lkmongo.store.knowledge.reader import Reader


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as reader:
        yield reader
