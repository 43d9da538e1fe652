"""Shows the results of a search with its strategy and the ranks of both branches."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from lkmongo.cli.command import Cli
    from lkmongo.embed.base import Embedder
    from lkmongo.model import Fact, Passage
    from lkmongo.search.strategy import SearchResult, SearchStrategy
    from lkmongo.store.open import Store

T = TypeVar("T", "Fact", "Passage")

Query = Annotated[str, typer.Argument(metavar="QUERY", help="A few words to search for.", show_default=False)]
Limit = Annotated[int, typer.Option("--limit", min=1, max=500, help="Maximum number of results.")]

_WARM_SECONDS = 3.0
_RANKS = ("score", "vector_rank", "text_rank")


@contextlib.asynccontextmanager
async def searching(cli: Cli) -> AsyncIterator[tuple[Store, SearchStrategy]]:
    from lkmongo.embed.choose import open_embedder
    from lkmongo.search.choose import strategy_for
    from lkmongo.store.open import open_store

    if not cli.debug:  # its warnings are part of the result
        logging.getLogger("lkmongo.search").setLevel(logging.ERROR)
    async with open_embedder(cli.settings) as embedder, open_store(cli.settings, on_status=cli.output.note) as store:
        # There is time to load the model; an unreachable database fails at once.
        await asyncio.gather(store.ping(), warm(embedder))
        strategy = strategy_for(cli.settings, store.db, embedder)
        try:
            await warm(strategy)
            yield store, strategy
        finally:
            await strategy.close()


async def warm(what: Embedder | SearchStrategy) -> None:
    """Load a model or probe the server; what fails, the result will tell."""
    from lkmongo.errors import LkmongoError

    with contextlib.suppress(LkmongoError, TimeoutError):  # the result will say that it was by words alone
        async with asyncio.timeout(_WARM_SECONDS):
            await what.warm()


def show_memories(cli: Cli, result: SearchResult[Fact], *, empty: str) -> None:
    _show(
        cli,
        result,
        ("memory_type", "content"),
        lambda memory: {"memory_type": memory.memory_type, "content": memory.told.content},
        empty,
    )


def show_passages(cli: Cli, result: SearchResult[Passage], *, empty: str) -> None:
    _show(
        cli,
        result,
        ("source", "chunk", "title", "content"),
        lambda passage: {
            "source": passage.source,
            "chunk": passage.chunk,
            "title": passage.title,
            "content": passage.content,
        },
        empty,
    )


def _show(
    cli: Cli, result: SearchResult[T], columns: tuple[str, ...], fields: Callable[[T], Mapping[str, Any]], empty: str
) -> None:
    """With --json one object, which names the strategy even without results; otherwise a row per result.

    A rank counts from 1, and is empty if the branch did not return the result.
    """
    from lkmongo.cli.output import Format

    rows = [
        {
            **fields(found.item),
            "score": round(found.score, 6),
            "vector_rank": found.vector_rank,
            "text_rank": found.text_rank,
        }
        for found in result.hits
    ]
    if cli.output.format is Format.JSON:
        cli.output.record({"strategy": result.strategy, "degraded": result.degraded, "hits": rows}, "")
        return
    if cli.output.format is Format.JSONL:
        cli.output.rows([*columns, *_RANKS, "strategy"], ({**row, "strategy": result.strategy} for row in rows))
    else:
        cli.output.rows([*columns, *_RANKS], rows, empty=empty)
        cli.output.note(f"Answered by the {result.strategy} strategy")
    if result.degraded:
        cli.output.warn(result.degraded)
