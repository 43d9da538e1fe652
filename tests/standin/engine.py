"""Answers the commands that a server without search does not know, or turns them into ones that it does know."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pymongo.errors import OperationFailure

from tests.standin import text_search, vector_search
from tests.standin.catalog import SERVES, Index, Phase, View
from tests.standin.definitions import SearchDefinition, VectorDefinition
from tests.standin.errors import MONGOT_DOWN, TIMED_OUT, CommandError, MongotError, unsupported
from tests.standin.hits import Hit
from tests.standin.management import COMMANDS
from tests.standin.pipelines import check_positions, check_request, check_versions, contains, first_stage
from tests.standin.rank_fusion import Ranked, fuse, parse_fusion
from tests.standin.rerank import parse_rerank, rerank
from tests.standin.rewrite import HIDDEN, Result, asks_for_search_metadata, missing_metadata, rewrite, rewrite_rest
from tests.standin.score_fusion import fuse_scores, parse_score_fusion

if TYPE_CHECKING:
    from pymongo import AsyncMongoClient

    from tests.standin.catalog import Catalog
    from tests.standin.commands import Command
    from tests.standin.management import Management
    from tests.standin.profiles import Profile
    from tests.standin.snapshots import Collection, Snapshot, Snapshots

_META = {"$search": "searchScore", "$vectorSearch": "vectorSearchScore"}
_PARSERS: dict[str, Callable[[Any], vector_search.VectorQuery | text_search.TextQuery]] = {
    "$search": text_search.parse_query,
    "$vectorSearch": vector_search.parse_query,
}
_SCORE = f"${HIDDEN}.s"
_DETAILS = f"${HIDDEN}.d"


@dataclass(frozen=True)
class Answer:
    """The reply, made without the server."""

    document: dict[str, Any]


@dataclass(frozen=True)
class Forward:
    """The command that the server shall run instead."""

    document: dict[str, Any]


@dataclass
class Engine:
    """Runs what the stand-in owns.

    Attributes:
        mongot_down: no search process answers.
        building: how a query of an index in its first build ends: in an error, or not at all.
        recall: the share of documents that an approximate search with too few candidates finds.
    """

    profile: Profile
    catalog: Catalog
    snapshots: Snapshots
    management: Management
    client: AsyncMongoClient[dict[str, Any]]
    seed: int = 0
    recall: float = 1.0
    building: Literal["error", "hang"] = "error"
    mongot_down: bool = False

    def __post_init__(self) -> None:
        self._turn = itertools.count()

    def owns(self, command: Command) -> bool:
        """Whether the server must not see this command as it is."""
        if self.profile.search == "absent":
            return False
        if command.name in COMMANDS:
            return True
        if command.name in ("aggregate", "explain", "create", "collMod") and command.mentions_search:
            return contains(command.body.get("pipeline")) or command.name in ("aggregate", "explain")
        return False

    async def run(self, command: Command, deadline: float | None, pause: float = 0.0) -> Answer | Forward:
        """Carry out an owned command.

        Args:
            deadline: loop time at which `maxTimeMS` is over.
            pause: seconds that the search process takes on top.

        Raises:
            CommandError: the error reply.
        """
        try:
            await self._pause(pause, deadline)
            if command.name in COMMANDS:
                return Answer(await self.management.run(command))
            if command.name != "aggregate":
                return self._explain_or_view(command)
            return await self._aggregate(command, deadline)
        except MongotError as error:
            raise self.worded(command, error) from None
        except OperationFailure as error:
            raise CommandError(error.code or 1, str((error.details or {}).get("errmsg", error))) from None

    def worded(self, command: Command, error: CommandError) -> CommandError:
        """An error as the client gets it: the server puts its own words before those of the search process."""
        if not isinstance(error, MongotError) or command.name != "aggregate":
            return error
        prefix = self.profile.error_prefix(f"{command.database}.{command.collection}")
        return CommandError(error.code, prefix + error.message, error.labels)

    def _explain_or_view(self, command: Command) -> Forward:
        inner = command.body.get("explain")
        pipeline = inner.get("pipeline") if isinstance(inner, dict) else command.body.get("pipeline")
        if contains(pipeline):
            raise unsupported(f"{command.name} with a search stage")
        return Forward(command.body)

    async def _pause(self, seconds: float, deadline: float | None) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        if deadline is not None and deadline < end:
            await asyncio.sleep(max(0.0, deadline - loop.time()))
            raise MongotError(50, TIMED_OUT)
        if seconds:
            await asyncio.sleep(seconds)

    async def _aggregate(self, command: Command, deadline: float | None) -> Answer | Forward:
        pipeline, body = command.pipeline, command.body
        if not contains(pipeline):
            kind = asks_for_search_metadata(pipeline)
            if kind:
                raise missing_metadata(kind)
            return Forward(body)
        check_versions(command.stages, self.profile.number)
        check_positions(pipeline)
        check_request(command, self.profile)
        if command.collection is None:
            raise CommandError(
                73, f"{{aggregate: 1}} is not valid for '{command.stages[0]}'; a collection is required."
            )
        if first_stage(pipeline) == "$listSearchIndexes":
            return await self._list(command)
        if "$rerank" in command.stages:
            return await self._rerank(command, deadline)
        rewritten = await self._pipeline(command.database, command.collection, pipeline, deadline)
        return Forward({**body, "pipeline": rewritten})

    async def _rerank(self, command: Command, deadline: float | None) -> Forward:
        """Run what stands before `$rerank`, and hand what it makes of that to the stages behind it."""
        pipeline = command.pipeline
        if not self.profile.reranks:
            raise unsupported("$rerank where native reranking is not switched on")
        places = [number for number, stage in enumerate(pipeline) if "$rerank" in stage]
        if len(places) != 1 or command.stages.count("$rerank") != 1:
            raise unsupported("more than one $rerank, or one in a nested pipeline")
        before, behind = pipeline[: places[0]], pipeline[places[0] + 1 :]
        stage = parse_rerank(pipeline[places[0]]["$rerank"])
        name = command.collection or ""
        run = await self._pipeline(command.database, name, before, deadline)
        options: dict[str, Any] = {} if deadline is None else {"maxTimeMS": self._left(deadline)}
        cursor = await self.client[command.database][name].aggregate(run, **options)
        found = rerank(stage, await cursor.to_list())
        documents = [document | {HIDDEN: {"s": score}} for document, score in found]
        rest = rewrite_rest(Result([], [], {"score": _SCORE}), behind)
        source = {"$documents": {"$literal": documents}}
        return Forward({**command.body, "aggregate": 1, "pipeline": [source, *rest, {"$unset": HIDDEN}]})

    async def _list(self, command: Command) -> Answer | Forward:
        name = command.collection or ""
        stage, *rest = command.pipeline
        documents = await self.management.list(command.database, name, stage["$listSearchIndexes"])
        batch = command.body.get("cursor", {}).get("batchSize", 101)
        if not rest and batch >= max(1, len(documents)):
            cursor = {"firstBatch": documents, "id": 0, "ns": f"{command.database}.{name}"}
            return Answer({"cursor": cursor, "ok": 1.0})
        source = {"$documents": {"$literal": documents}}
        return Forward({**command.body, "aggregate": 1, "pipeline": [source, *rest]})

    async def _pipeline(self, database: str, name: str, stages: list[Any], deadline: float | None) -> list[Any]:
        """A pipeline without search stages that yields the same."""
        rest = [await self._nested(database, stage, deadline) for stage in stages]
        first = first_stage(stages)
        if first in _META:
            result = await self._search(database, name, stages[0], deadline)
            return rewrite(result, rest[1:])
        if first == "$rankFusion":
            return rewrite(await self._fuse(database, name, stages[0][first], deadline), rest[1:])
        if first == "$scoreFusion":
            return rewrite(await self._fuse_scores(database, name, stages[0][first], deadline), rest[1:])
        return rest

    async def _nested(self, database: str, stage: Any, deadline: float | None) -> Any:
        spec = stage.get("$unionWith") if isinstance(stage, dict) else None
        if not isinstance(spec, dict) or not contains(spec.get("pipeline")):
            return stage
        inner = await self._pipeline(database, spec["coll"], spec["pipeline"], deadline)
        return {"$unionWith": {**spec, "pipeline": inner}}

    async def _search(self, database: str, name: str, stage: dict[str, Any], deadline: float | None) -> Result:
        ((kind, spec),) = stage.items()
        hits = await self._hits(database, name, kind, spec, deadline)
        refused = frozenset() if self.profile.number >= (8, 1) else frozenset({"score", "scoreDetails"})
        return Result([hit.id for hit in hits], [hit.score for hit in hits], {_META[kind]: _SCORE}, refused=refused)

    async def _hits(self, database: str, name: str, kind: str, spec: Any, deadline: float | None) -> list[Hit]:
        query = _PARSERS[kind](spec)
        collection = await self.snapshots.collection(database, name)
        if collection is None:
            return []
        if not collection.plain or collection.collation:
            raise unsupported("search on views, on time series and on collections with a collation")
        if self.mongot_down:
            raise MongotError(6, MONGOT_DOWN)
        host = next(self._turn) % self.catalog.hosts
        index = self.catalog.find(collection.uuid, name=query.index)
        if index is None or index.dropped is not None:
            return []
        view = index.view(self.catalog.host_time(host))
        if view.phase is Phase.UNSEEN:
            return []
        await self._serve_or_fail(index, view, kind, deadline)
        definition = view.main.parsed
        if definition.unmodelled:
            raise unsupported(f"a search of an index with {definition.unmodelled}")
        if isinstance(query, text_search.TextQuery):
            if not isinstance(definition, SearchDefinition):
                raise MongotError(8, f"Cannot execute $search over vectorSearch index '{index.name}'")
            snapshot = await self._snapshot(collection, index, host)
            return text_search.search(query, definition, snapshot, seed=self.seed)
        if not isinstance(definition, VectorDefinition):
            raise MongotError(8, f"Cannot execute $vectorSearch over search index '{index.name}'")
        vector_search.check_against_index(query, definition)
        snapshot = await self._snapshot(collection, index, host)
        return vector_search.search(query, definition, snapshot, seed=self.seed, recall=self.recall)

    async def _serve_or_fail(self, index: Index, view: View, kind: str, deadline: float | None) -> None:
        if view.phase in SERVES:
            return
        if view.phase is Phase.INITIAL_SYNC and self.building == "hang":
            await self._pause(10**6, deadline)
        what = "vector" if kind == "$vectorSearch" else "search"
        raise MongotError(8, f"cannot query {what} index {index.name} while in state {view.phase.value}")

    async def _snapshot(self, collection: Collection, index: Index, host: int) -> Snapshot:
        if index.frozen is not None:
            return index.frozen
        await self.snapshots.refresh(collection)
        return self.snapshots.at(collection.uuid, self.catalog.host_time(host) - self.catalog.timing.lag)

    async def freeze(self, database: str, name: str, index: Index) -> None:
        """Let an index serve for good what it serves now."""
        collection = await self.snapshots.collection(database, name)
        if collection is not None:
            index.frozen = None
            index.frozen = await self._snapshot(collection, index, 0)

    async def _fuse(self, database: str, name: str, spec: Any, deadline: float | None) -> Result:
        fusion = parse_fusion(spec)
        full = self.profile.number >= (8, 1)
        if fusion.details and not full:
            raise CommandError(224, "'featureFlagRankFusionFull' must be enabled to use scoreDetails")
        fused = fuse(await self._branches(database, name, fusion.pipelines, deadline), fusion.weights)
        ids, scores = [item.id for item in fused], [item.score for item in fused]
        if not full:
            # Before 8.1 the score is no metadata but a field of the document.
            refused = frozenset({"score", "scoreDetails"})
            return Result(ids, scores, {}, refused=refused, by_score=True, shown_as="score")
        if not fusion.details:
            return Result(ids, scores, {"score": _SCORE}, by_score=True)
        meta = {"score": _SCORE, "scoreDetails": _DETAILS}
        return Result(ids, scores, meta, [item.details for item in fused], by_score=True)

    async def _fuse_scores(self, database: str, name: str, spec: Any, deadline: float | None) -> Result:
        fusion = parse_score_fusion(spec)
        fused = fuse_scores(await self._branches(database, name, fusion.pipelines, deadline), fusion)
        ids, scores = [item.id for item in fused], [item.score for item in fused]
        if not fusion.details:
            return Result(ids, scores, {"score": _SCORE}, by_score=True)
        meta = {"score": _SCORE, "scoreDetails": _DETAILS}
        return Result(ids, scores, meta, [item.details for item in fused], by_score=True)

    async def _branches(
        self, database: str, name: str, pipelines: dict[str, list[dict[str, Any]]], deadline: float | None
    ) -> dict[str, list[Ranked]]:
        for pipeline in pipelines.values():
            check_positions(pipeline)
            if any("$rerank" in stage for stage in pipeline):
                raise unsupported("$rerank in an input pipeline")
        return {key: await self._ranked(database, name, pipeline, deadline) for key, pipeline in pipelines.items()}

    async def _ranked(self, database: str, name: str, stages: list[Any], deadline: float | None) -> list[Ranked]:
        """One input pipeline of a fusion: ids with what they are ranked by."""
        searched = first_stage(stages) in _META
        if searched:
            result = await self._search(database, name, stages[0], deadline)
            run = [*result.stages(), *rewrite_rest(result, stages[1:])]
        else:
            run = rewrite_rest(Result([], [], {}), stages)
        sorts = [stage["$sort"] for stage in stages if "$sort" in stage]
        keys = [f"${field}" for field in sorts[-1]] if sorts else [_SCORE]
        run.append({"$project": {"_id": 1, "k": keys, "s": _SCORE}})
        options: dict[str, Any] = {} if deadline is None else {"maxTimeMS": self._left(deadline)}
        cursor = await self.client[database][name].aggregate(run, **options)
        return [Ranked(item["_id"], item["k"], item.get("s") if searched else None) for item in await cursor.to_list()]

    def _left(self, deadline: float) -> int:
        left = int((deadline - asyncio.get_running_loop().time()) * 1000)
        if left <= 0:
            raise MongotError(50, TIMED_OUT)
        return left
