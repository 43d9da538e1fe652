"""`lkmongo db indexes`, `wait-ready` and `status`: create indexes, wait until they are ready, show their state."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkmongo.cli.command import Cli, Yes, command
from lkmongo.cli.db import app
from lkmongo.cli.output import Format, counted
from lkmongo.cli.progress import IndexWatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lkmongo.embed.base import Embedder
    from lkmongo.errors import LkmongoError
    from lkmongo.store.indexes.database_indexes import Change
    from lkmongo.store.indexes.definitions import SearchIndex
    from lkmongo.store.indexes.readiness import IndexState
    from lkmongo.store.indexes.search_indexes import SearchChange


COLUMNS = ("collection", "index", "kind", "status", "queryable", "ready", "canary", "tuned", "detail")


def state_row(state: IndexState) -> dict[str, Any]:
    canary = state.canary
    return {
        "collection": state.index.collection,
        "index": state.index.name,
        "kind": state.index.type,
        "status": state.status,
        "queryable": state.queryable,
        "ready": state.ready,
        "canary": canary.outcome.value if canary else None,
        "tuned": ", ".join(f"{path} {value}" for path, value in state.tuned.items()),
        "detail": "; ".join(filter(None, [state.detail, canary.detail if canary else ""])),
    }


RequireSearch = Annotated[bool, typer.Option("--require-search", help="Fail (exit code 7) on a server without search.")]
_NAMED = 5  # indexes that an error names; the rest is in the list
_EXACT = "This MongoDB has no search: searches run exact, which needs no search index"


class IndexFormat(StrEnum):
    """The formats of `Format`, and a Terraform module."""

    TABLE = "table"
    PLAIN = "plain"
    JSON = "json"
    JSONL = "jsonl"
    TERRAFORM = "terraform"


@command(app, "indexes", data=True)
async def indexes(
    cli: Cli,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Change nothing; report problems, and exit with 1 if a search index is FAILED, STALE or without its "
            "collection, else with 6 if something differs, else with 3 if an index is not ready yet.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the definitions as JSON, without connecting.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Drop and recreate search indexes that are broken or cannot be updated, after asking.",
        ),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until they are ready, as `db wait-ready` does.")] = False,
    require_search: RequireSearch = False,
    yes: Yes = False,
    no_search: Annotated[
        bool, typer.Option("--no-search", help="Leave search indexes alone: something else, Terraform, creates them.")
    ] = False,
    output: Annotated[
        IndexFormat | None,
        typer.Option(
            "--output",
            "-o",
            help="Format of the data; table on a terminal, else plain. With terraform, it changes nothing: it prints "
            "the search indexes as a Terraform module, without connecting.",
        ),
    ] = None,
) -> None:
    """Create and update the collections, indexes and search indexes, with those that your agent's module declares.

    Run it as often as you like: definitions are compared by meaning, unknown indexes and what was tuned in Atlas
    (quantization, the graph, partitions, stored fields) are left alone, and nothing is dropped without --replace: a
    broken search index is reported, with exit code 1. On a server without search, only the ordinary indexes are
    created.
    """
    from lkmongo.embed.choose import embedder_for
    from lkmongo.errors import NotSupportedError, UsageError
    from lkmongo.store.indexes import database_indexes
    from lkmongo.store.indexes import search_indexes as search_provision
    from lkmongo.store.open import open_store

    printed = dry_run or output is IndexFormat.TERRAFORM
    if contradiction := _contradiction(
        prints=printed, check=check, changes=replace or wait, needs_search=require_search, no_search=no_search
    ):
        raise UsageError(contradiction, hint="leave the others out")
    cli.declare()
    embedder = embedder_for(cli.settings)
    wanted = () if no_search else _wanted(cli, embedder)
    if printed:
        _print_definitions(cli, wanted, output)
        return
    async with open_store(cli.settings, on_status=cli.output.note) as store:
        confirmed = await _confirm_rebuild(cli, store.db, wanted if replace else (), yes=yes)
        ordinary = await (database_indexes.plan(store.db) if check else database_indexes.apply(store.db))
        search: Sequence[SearchChange] = []
        failure: Exception | None = None
        try:
            if check:
                search = await search_provision.plan(store.db, wanted)
            else:
                search = await search_provision.apply(store.db, wanted, replace=confirmed)
        except NotSupportedError as error:
            failure = error if require_search or not embedder.dimensions else None
            if failure is None:
                cli.output.note(_EXACT)
        except search_provision.NotAppliedError as error:
            search, failure = error.changes, error
        rows = [_row(change, "ordinary") for change in ordinary] + [_row(each, each.index.type) for each in search]
        cli.output.rows(["collection", "index", "kind", "action", "detail"], rows)
        if failure is not None:
            raise failure
        if not check:
            _note_next_steps(cli, search, wait=wait)
        _raise_if_wrong([*ordinary, *search], check=check)
        if wait and search:
            from lkmongo.backoff import Backoff
            from lkmongo.store.indexes.readiness import TIMEOUT, wait_ready

            with IndexWatch(cli.output, wanted, in_github=cli.settings.in_github_actions) as watch:
                await wait_ready(store.db, wanted, embedder, Backoff(TIMEOUT), watch)


async def _confirm_rebuild(cli: Cli, db: Any, wanted: Sequence[SearchIndex], *, yes: bool) -> list[str]:
    """Say which of the indexes would be dropped and what building them again costs, ask, and return their names."""
    from lkmongo.errors import NotSupportedError
    from lkmongo.store.indexes import search_indexes as search_provision
    from lkmongo.store.indexes.database_indexes import Action

    try:
        planned = await search_provision.plan(db, wanted, replace=[index.name for index in wanted])
    except NotSupportedError:
        return []
    doomed = [change for change in planned if change.action is Action.REPLACE]
    names = [change.index.name for change in doomed]
    for line in await search_provision.rebuild_costs(db, doomed):
        cli.output.note(line)
    if doomed:
        cli.confirm(f"Drop {' and '.join(names)} and build {'it' if len(doomed) == 1 else 'them'} again?", yes=yes)
    return names


def _note_next_steps(cli: Cli, search: Sequence[SearchChange], *, wait: bool) -> None:
    from lkmongo.store.indexes.database_indexes import Action

    if any("numDimensions" in change.detail for change in search):
        cli.output.note("Documents with vectors of another length are not found until lkmongo db embed")
    if any(change.action is Action.UPDATE for change in search):
        cli.output.note("An updated search index answers by its previous definition until the new one is built")
    if not wait and any(change.action is not Action.UNCHANGED or change.pending for change in search):
        cli.output.note("Search indexes take a minute or two to build; lkmongo db wait-ready waits for them")


def _row(change: Change[Any], kind: str) -> dict[str, Any]:
    return {
        "collection": change.index.collection,
        "index": change.index.name,
        "kind": kind,
        "action": change.action.value,
        "detail": "; ".join(filter(None, [change.detail, change.hint])),
    }


def _wanted(cli: Cli, embedder: Embedder) -> Sequence[SearchIndex]:
    from lkmongo.store.indexes.definitions import Tuning, indexes_for

    return indexes_for(embedder, Tuning.of(cli.settings))


def _contradiction(*, prints: bool, check: bool, changes: bool, needs_search: bool, no_search: bool) -> str | None:
    """Why options of `db indexes` cannot be combined, or None."""
    if (check and changes) or (prints and (check or changes)):
        return (
            "--check, --dry-run and --output terraform change nothing and cannot be combined with --replace or --wait, "
            "nor --check with the others"
        )
    if no_search and (changes or needs_search or prints):
        return (
            "--no-search leaves search indexes alone and cannot be combined with --replace, --wait, --require-search, "
            "--dry-run or --output terraform"
        )
    return None


def _print_definitions(cli: Cli, wanted: Sequence[SearchIndex], output: IndexFormat | None) -> None:
    """Print all definitions as JSON, or the search indexes for Terraform. Raises UsageError."""
    from lkmongo.errors import UsageError
    from lkmongo.store.indexes.terraform import search_index_module

    if output is not IndexFormat.TERRAFORM:
        cli.output.say(json.dumps(_definitions(wanted), indent=None if cli.output.is_json else 2))
    elif cli.asked is Format.JSON:
        raise UsageError("--json and --output terraform are two formats", hint="leave one of them out")
    else:
        cli.output.write(search_index_module(wanted, cli.settings.mongodb_db))


def _definitions(wanted: Sequence[SearchIndex]) -> list[dict[str, Any]]:
    from lkmongo.declarations import declared
    from lkmongo.store.mongo.schema import all_indexes

    ordinary = [
        {
            "collection": index.collection,
            "index": index.name,
            "kind": "ordinary",
            "definition": {"key": dict(index.keys), "unique": index.unique}
            | ({"expireAfterSeconds": 0} if index.expires else {}),
        }
        for index in all_indexes(declared())
    ]
    return ordinary + [
        {"collection": each.collection, "index": each.name, "kind": each.type, "definition": dict(each.definition)}
        for each in wanted
    ]


def _raise_if_wrong(changes: Sequence[Change[Any]], *, check: bool) -> None:
    """Raise for the worst problem that remains, or that `--check` finds: broken, then different, then not ready."""
    from lkmongo.errors import DriftError, NotReadyError
    from lkmongo.store.indexes.readiness import IndexFailedError

    kinds: dict[type[LkmongoError], str] = {
        IndexFailedError: "are broken",
        DriftError: "differ from what is needed" if check else "could not be created",
        NotReadyError: "are not ready",
    }
    found = {kind: [each for each in changes if _error_kind(each, check=check) is kind] for kind in kinds}
    named = [
        f"{each.index.collection}.{each.index.name}: {each.detail or 'it is missing'}"
        for those in found.values()
        for each in those
    ]
    why = "; ".join(named[:_NAMED]) + (f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else "")
    for kind, those in found.items():
        if those:
            summary = f"{len(those)} of {len(changes)} indexes {kinds[kind]}"
            raise kind(summary, why=why, hint=next((each.hint for each in those if each.hint), "lkmongo db indexes"))


def _error_kind(change: Change[Any], *, check: bool) -> type[LkmongoError] | None:
    """The error for a planned (`check`) or applied change, or None."""
    from lkmongo.errors import DriftError, NotReadyError
    from lkmongo.store.indexes.database_indexes import Action
    from lkmongo.store.indexes.readiness import IndexFailedError
    from lkmongo.store.indexes.search_indexes import SearchChange

    left_alone = check or change.action is Action.UNCHANGED
    if isinstance(change, SearchChange) and change.broken and left_alone:
        return IndexFailedError
    if change.action is Action.BLOCKED or (check and change.action is not Action.UNCHANGED):
        return DriftError
    return NotReadyError if check and isinstance(change, SearchChange) and change.pending else None


@command(app, "wait-ready", data=True)
async def wait_ready(
    cli: Cli,
    timeout: Annotated[  # noqa: ASYNC109 - the option's name
        float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait.")
    ] = 300,
    require_search: RequireSearch = False,
) -> None:
    """Wait until every search index serves its definition and finds existing documents.

    As a test, a document of each collection is searched for by its own vector or words; if there is none, a temporary
    one is inserted. Exits with 3 when the time is over, and at once with 1 if an index has failed. In GitHub Actions,
    what it waits for is a group in the log, and how it ended a notice or an error.
    """
    from lkmongo.backoff import Backoff
    from lkmongo.embed.choose import embedder_for
    from lkmongo.errors import NotSupportedError
    from lkmongo.store.indexes import readiness
    from lkmongo.store.open import open_store

    embedder = embedder_for(cli.settings)
    wanted = _wanted(cli, embedder)
    watch = IndexWatch(cli.output, wanted, in_github=cli.settings.in_github_actions)
    async with open_store(cli.settings, on_status=cli.output.note) as store:
        try:
            with watch:
                try:
                    await readiness.wait_ready(store.db, wanted, embedder, Backoff(timeout), watch)
                except NotSupportedError:
                    if require_search or not embedder.dimensions:
                        raise
                    cli.output.note(_EXACT)
        finally:
            cli.output.rows(COLUMNS, map(state_row, watch.states.values()))


@command(app, "status", data=True)
async def status(cli: Cli) -> None:  # noqa: PLR0915 - one thing after the other
    """Show what the server can do and how it is searched, indexes, missing vectors, older documents, and the retention.

    Changes nothing, and does not wait.
    """
    from lkmongo.cli.db import kept
    from lkmongo.embed.choose import embedder_for
    from lkmongo.search.choose import ways_of
    from lkmongo.store.indexes import database_indexes
    from lkmongo.store.indexes.database_indexes import Action
    from lkmongo.store.indexes.definitions import Tuning
    from lkmongo.store.indexes.encrypt import states
    from lkmongo.store.indexes.readiness import database_status
    from lkmongo.store.indexes.upgrade import versions
    from lkmongo.store.open import open_store

    cli.declare()
    embedder = embedder_for(cli.settings)
    async with open_store(cli.settings, on_status=cli.output.note) as store:
        found = await database_status(store.db, embedder, Tuning.of(cli.settings))
        keep = kept(await database_indexes.current_retention(store.db))
        schema = [dataclasses.asdict(each) for each in await versions(store.db)]
        encrypted = [dataclasses.asdict(each) for each in await states(store.db)]
    server = {
        "version": found.capabilities.release,
        **found.capabilities.features,
        "embedding_model": embedder.model,
        "dimensions": embedder.dimensions,
    }
    ways = ways_of(cli.settings, found.capabilities, embedder, found.search)
    searched = [{"search": what, "by": way} for what, way in ways.items()]
    shown = {Action.CREATE: "MISSING", Action.UNCHANGED: "READY", Action.BLOCKED: "BLOCKED"}
    rows = [
        {
            "collection": change.index.collection,
            "index": change.index.name,
            "kind": "ordinary",
            "status": shown[change.action],
            "queryable": None,
            "ready": change.action is Action.UNCHANGED,
            "canary": None,
            "tuned": "",
            "detail": change.detail,
        }
        for change in found.indexes
    ] + [state_row(state) for state in found.search]
    documents = [dataclasses.asdict(each) for each in found.documents]
    if cli.output.is_json:
        cli.output.event(
            {
                "server": server,
                "searched": ways,
                "indexes": rows,
                "documents": documents,
                "schema": schema,
                "encryption": {"by": cli.settings.encryption, "documents": encrypted},
                "retention": keep,
            }
        )
    else:
        cli.output.rows(list(server), [server])
        cli.output.say("")
        cli.output.rows(["search", "by"], searched)
        cli.output.say("")
        cli.output.rows(COLUMNS, rows)
        cli.output.say("")
        cli.output.rows(["collection", "documents", "no_vector", "other_model"], documents)
        cli.output.say("")
        cli.output.rows(["collection", "older", "newer"], schema)
        cli.output.say("")
        cli.output.rows(["collection", "plain", "encrypted"], encrypted)
        cli.output.say("")
        cli.output.rows(["subject", "keep"], keep)
    for each in found.search:
        if not each.ready:
            cli.output.warn("; ".join(filter(None, [f"{each.index.name} is {each.label}", each.detail, each.remedy])))
    _note_what_embeds(cli, embedder)
    _tell_encryption(cli, encrypted)
    if found.trouble:
        cli.output.warn(f"the search indexes could not be listed: {found.trouble}")
    elif not found.capabilities.search:
        cli.output.note(_EXACT)
    if left := sum((each.no_vector or 0) + (each.other_model or 0) for each in found.documents):
        counted = "1 document has" if left == 1 else f"{left} documents have"
        cli.output.note(f"{counted} no vector of {embedder.model}: found by words alone until lkmongo db embed")
    if older := sum(each["older"] or 0 for each in schema):
        cli.output.note(f"{_of(older, 'an earlier')}: lkmongo db upgrade brings them to the form of this one")
    if newer := sum(each["newer"] or 0 for each in schema):
        cli.output.warn(f"{_of(newer, 'a later')}, which this one may not be able to read: upgrade lkmongo")


def _note_what_embeds(cli: Cli, embedder: Embedder) -> None:
    from lkmongo.embed.atlas import AtlasEmbedder

    if isinstance(embedder, AtlasEmbedder):
        cli.output.note(embedder.description)


def _tell_encryption(cli: Cli, states: list[dict[str, Any]]) -> None:
    plain, hidden = (sum(each[what] or 0 for each in states) for what in ("plain", "encrypted"))
    if cli.settings.encryption != "off" and plain:
        cli.output.note(f"{counted(plain, 'document')} not encrypted yet: lkmongo db encrypt")
    if cli.settings.encryption == "off" and hidden:
        cli.output.warn(f"{counted(hidden, 'document')} cannot be read: encrypted, and LKMONGO_ENCRYPTION is off")


def _of(number: int, release: str) -> str:
    return f"{counted(number, 'document')} {'is' if number == 1 else 'are'} of {release} release of lkmongo"
