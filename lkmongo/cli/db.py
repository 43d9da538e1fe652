"""`lkmongo db seed`, `embed`, `upgrade`, `encrypt`, `retention`: sample data, vectors, older documents, keys, times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkmongo.cli.command import Cli, DryRun, FollowLinks, Yes, command
from lkmongo.cli.output import counted
from lkmongo.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from lkmongo.declarations import Declarations
    from lkmongo.settings import Settings
    from lkmongo.store.indexes.database_indexes import Retention
    from lkmongo.store.open import Store
    from lkmongo.store.seed.seeds import SeedData

_NAMED = 20
"""People that a warning names."""

app = typer.Typer(help="Prepare a database for the agent.", no_args_is_help=True, rich_markup_mode=None)


@command(app, "seed", data=True)
async def seed(
    cli: Cli,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="A folder of your own instead of the sample data.", show_default=False)
    ] = None,
    erased: Annotated[
        bool, typer.Option("--erased", help="Also load people who were erased from this database, as new ones.")
    ] = False,
    follow_links: FollowLinks = False,
    yes: Yes = False,
) -> None:
    """Load users, orders, declared collections and knowledge from a folder; run it as often as you like.

    Existing profiles are never overwritten, and nothing is deleted that an earlier seed did not write. People who were
    erased (`users erase`) are left out with their orders, and named. A database on another machine needs --yes.
    """
    from lkmongo.embed.choose import open_embedder
    from lkmongo.store.indexes import database_indexes
    from lkmongo.store.mongo import declared
    from lkmongo.store.mongo.client import is_local
    from lkmongo.store.open import open_store
    from lkmongo.store.seed.seeding import load_samples
    from lkmongo.store.seed.seeding import seed as write_seeds

    cli.declare()
    uri = cli.settings.mongodb_uri
    if uri and not is_local(uri.get_secret_value()):
        cli.confirm(f"Load {folder or 'the sample data'} into a database on another machine?", yes=yes)
    async with open_embedder(cli.settings) as embedder, open_store(cli.settings, on_status=cli.output.note) as store:
        known = await declared.read(store.db)
        data = _read_seeds(folder, known, follow_links=follow_links) if folder else load_samples(known)
        await database_indexes.apply(store.db)
        with progress("seeding") as report:
            counts = await write_seeds(
                store.db, data, embedder, on_progress=report, on_wait=cli.output.note_wait, erased_too=erased
            )
    columns = ["collection", "inserted", "updated", "unchanged", "kept", "removed", "left_out"]
    cli.output.rows(columns, counts.rows())
    if counts.erased:
        names = sorted(f"{each.user_id} in tenant {each.tenant_id}" for each in counts.erased)
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        cli.output.warn(
            f"erased from this database, so left out: {', '.join(names[:_NAMED])}{more}; --erased loads them as new"
        )


def _read_seeds(folder: Path, known: Declarations, *, follow_links: bool) -> SeedData:
    from lkmongo.store.knowledge.reader import Reader
    from lkmongo.store.seed.seeds import load_seeds

    with Reader() as reader:
        return load_seeds(
            folder, known, follow_links=follow_links, split=lambda text, source: reader.read(text.encode(), source)
        )


@command(app, "embed", data=True)
async def embed(
    cli: Cli,
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", help="Id of a tenant; all tenants without it.", show_default=False),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Embed the memories, passages and summaries of calls that have no vector, or one of another model.

    Run it after a change of the embedder or an outage of its service. It can be interrupted: the next run continues.
    Documents that change meanwhile are left to the program that changes them.
    """
    from dataclasses import asdict

    from lkmongo.embed.choose import open_embedder
    from lkmongo.model import TenantScope
    from lkmongo.store.indexes.backfill import backfill, count_missing
    from lkmongo.store.open import open_store

    within = TenantScope(tenant) if tenant is not None else None
    async with open_embedder(cli.settings) as embedder, open_store(cli.settings, on_status=cli.output.note) as store:
        if dry_run:
            filled = await count_missing(store.db, embedder, tenant=within, thorough=True)
        else:
            with progress("embedding") as report:
                filled = await backfill(
                    store.db,
                    embedder,
                    tenant=within,
                    thorough=True,
                    on_progress=report,
                    on_wait=cli.output.note_wait,
                )
    cli.output.rows(
        ["collection", "missing", "embedded", "changed", "unfit", "too_long", "model"],
        ({**asdict(each), "model": embedder.model} for each in filled),
    )
    if not embedder.dimensions:
        cli.output.note("These are the texts that MongoDB embeds; lkmongo db status shows its search indexes")
    if unfit := sum(each.unfit for each in filled):
        cli.output.warn(f"{unfit} documents have no text to embed; lkmongo did not write them")
    if too_long := sum(each.too_long for each in filled):
        documents = f"{counted(too_long, 'document')} {'is' if too_long == 1 else 'are'}"
        remedy = "give the model a larger context, or use another"
        cli.output.warn(f"{documents} too long for {embedder.model}, and found by words alone: {remedy}")


@command(app, "upgrade", data=True)
async def upgrade(cli: Cli, dry_run: DryRun = False) -> None:
    """Bring the documents that an earlier release wrote to the form of this one.

    Workers and calls may go on meanwhile, and this release reads such documents as well: run it once no worker of the
    earlier release is left. It can be interrupted: the next run continues. Secrets that were remembered before they
    were refused are deleted for good.

    It also hides the ids of erased people with LKMONGO_ERASURE_KEY, if that is new: set it on every machine before.
    """
    from lkmongo.errors import NotReadyError
    from lkmongo.store.indexes.upgrade import Upgraded
    from lkmongo.store.indexes.upgrade import upgrade as upgrade_documents
    from lkmongo.store.mongo.schema import SCHEMA_VERSION
    from lkmongo.store.open import open_store

    found: list[Upgraded] = []
    async with open_store(cli.settings, on_status=cli.output.note) as store:
        hashes = await _seal_hashes(cli, store, dry_run=dry_run)
        with progress("upgrading") as report:
            async for each in upgrade_documents(store.db, dry_run=dry_run, on_progress=report):
                found.append(each)
                if each.older:
                    verb = "would be upgraded" if dry_run else "upgraded"
                    cli.output.note(f"{each.collection}: {each.done:,} of {counted(each.older, 'document')} {verb}")
    cli.output.rows(
        ["collection", "change", "documents"],
        [
            {"collection": each.collection, "change": what, "documents": number}
            for each in found
            for what, number in [*each.changes.items(), (f"mark as schema version {SCHEMA_VERSION}", each.done)]
            if each.older
        ]
        + [
            {"collection": name, "change": "seal the hash of a person", "documents": n}
            for name, n in hashes.items()
            if n
        ],
        empty="Every document is of this release",
    )
    if left := sum(each.left for each in found):
        raise NotReadyError(
            f"{counted(left, 'document')} of an earlier release {'is' if left == 1 else 'are'} left",
            why="a worker of that release still writes",
            hint="run it again when all workers are of this release",
        )


async def _seal_hashes(cli: Cli, store: Store, *, dry_run: bool) -> dict[str, int]:
    """Seal the hashes of people with the erasure key, if there is one; how many, by collection."""
    from lkmongo.store.people.audit import Audit
    from lkmongo.store.people.sealing import seal_hashes, unsealed

    if (counts := await unsealed(store.db)) is None:
        return {}
    if not (store.erasure_key and store.erasure_key.is_set):
        cli.output.warn(
            "whoever has this database can find out by guess whom receipts and the audit trail are about: set "
            "LKMONGO_ERASURE_KEY to the same key on every machine, then run this again"
        )
        return {}
    if dry_run:
        return counts
    done = await seal_hashes(store.db) or {}
    await Audit(store.db).write(operator=cli.operator, action="db upgrade", tenant_id=None, counts=done)
    return done


@command(app, "encrypt", data=True)
async def encrypt(
    cli: Cli,
    off: Annotated[bool, typer.Option("--off", help="Decrypt everything instead, before encryption is turned off.")] = (
        False
    ),
    rewrap: Annotated[
        bool, typer.Option("--rewrap", help="Wrap people's keys by the newest master key; data stay as they are.")
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Encrypt what people said before LKMONGO_ENCRYPTION was set; see docs/encryption.md.

    The first run with LKMONGO_ENCRYPTION=local makes the master key, a file of which you need a copy elsewhere. Calls
    may go on meanwhile, if every process has the same setting. It can be interrupted: the next run continues.
    """
    from lkmongo.errors import NotReadyError, UsageError
    from lkmongo.store.indexes.encrypt import convert
    from lkmongo.store.open import open_store

    if cli.settings.encryption == "off":
        raise UsageError(
            "LKMONGO_ENCRYPTION is off",
            why="it says which master key wraps the keys of people",
            hint="set it to local, aws, azure, gcp or kmip" + ("; --off needs it as well" if off else ""),
        )
    if off and rewrap:
        raise UsageError("--off and --rewrap exclude each other", hint="leave out one of them")
    settings = cli.settings if rewrap else await _with_master_key(cli, dry_run=dry_run)
    if off and not dry_run:
        cli.confirm("Store everything that people said in plain?", yes=yes)
    async with open_store(settings, on_status=cli.output.note) as store:
        vault = store.encryption.vault
        if vault and rewrap:
            with progress("wrapping") as report:
                keys = await vault.to_rewrap()
                done = 0 if dry_run else await vault.rewrap(lambda done: report("keys", done, max(done, keys)))
            sentence = f"{counted(keys, 'key')} would be wrapped" if dry_run else f"{counted(done, 'key')} wrapped"
            cli.output.record({"keys": keys if dry_run else done, "dry_run": dry_run}, sentence)
            return
        if vault:
            await (vault.warm() if dry_run else vault.check())
        if off and not dry_run:
            await _audit(cli, store, "db encrypt --off", {})
        with progress("decrypting" if off else "encrypting") as report:
            found = await convert(store.db, decrypt=off, dry_run=dry_run, on_progress=report)
    verb = "decrypted" if off else "encrypted"
    columns = ["collection", "documents", verb, "left"]
    rows = [(each.collection, each.found, each.done, each.left) for each in found]
    cli.output.rows(columns, (dict(zip(columns, row, strict=True)) for row in rows))
    if not dry_run and (left := sum(each.left for each in found)):
        raise NotReadyError(
            f"{counted(left, 'document')} {'is' if left == 1 else 'are'} not {verb} yet",
            why="something is still writing",
            hint="run it again; check that every process has the same LKMONGO_ENCRYPTION",
        )


async def _with_master_key(cli: Cli, *, dry_run: bool) -> Settings:
    """The settings, after the file with the master key was made, if this is the first time.

    A dry run makes none, and counts without.
    """
    from lkmongo.store.indexes.encrypt import make_master_key
    from lkmongo.store.mongo.master_keys import key_file
    from lkmongo.store.open import open_store

    if cli.settings.encryption != "local" or key_file(cli.settings).exists():
        return cli.settings
    plain = cli.settings.model_copy(update={"encryption": "off"})
    if dry_run:
        return plain
    if plain.key_vault_uri:
        plain = plain.model_copy(update={"mongodb_uri": plain.key_vault_uri})
    async with open_store(plain, on_status=cli.output.note) as store:
        made = await make_master_key(cli.settings, store.db)
    if made:
        cli.output.warn(
            f"the master key is in {made}; copy it to a safe place now: nothing can be decrypted without it"
        )
    return cli.settings


@command(app, "retention", data=True)
async def retention(
    cli: Cli,
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="calls|memories|profiles|audit|NAME",
            help="What to limit; NAME is a declared collection.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Argument(metavar="TIME|forever", help="How long to keep it: 90d, 26w, or forever.", show_default=False),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Show or set how long data is kept.

    For calls, the time counts from their end, for memories from the last change, for profiles from the last call, for a
    declared collection from the date that its declaration names.
    MongoDB deletes older data within a minute or so. A shorter time needs confirmation, which says how much is deleted.

    The audit trail is different: its older entries are deleted by this command, each time that it is run, together with
    a signed checkpoint.
    """
    from lkmongo.errors import UsageError
    from lkmongo.store.indexes import database_indexes
    from lkmongo.store.open import open_store
    from lkmongo.times import parse_duration

    cli.declare()
    if subject is None:
        async with open_store(cli.settings) as store:
            rows = kept(await database_indexes.current_retention(store.db))
        cli.output.rows(["subject", "keep"], rows)
        return
    if keep is None:
        raise UsageError("the time is missing", hint=f"lkmongo db retention {subject} 90d, or forever")
    limit = None if keep.lower() == "forever" else parse_duration(keep)
    if limit is not None and limit.total_seconds() < 3_600:
        raise UsageError(f"{keep} is shorter than an hour", why="a running call could be deleted", hint="1h or more")
    async with open_store(cli.settings) as store:
        if subject == "audit":
            await _shorten_audit(cli, store, limit, yes=yes, dry_run=dry_run)
            return
        before = (await database_indexes.retention_of(store.db, subject)).keep
        shorter = limit is not None and (before is None or limit < before)
        expired = await database_indexes.count_older(store.db, subject, limit) if limit is not None and shorter else 0
        if not dry_run:
            if shorter:
                question = f"Keep {subject} for {keep} instead of {_shown(before)}?"
                cli.confirm(f"{question} {counted(expired, 'document')} will be deleted.", yes=yes)
            await _audit(cli, store, f"db retention {subject}", {"documents": expired} if expired else {})
            await database_indexes.set_retention(store.db, subject, limit)
    fields: dict[str, Any] = {
        "subject": subject,
        "before": _shown(before),
        "keep": _shown(limit),
        "would_go": expired,
        "dry_run": dry_run,
    }
    verb = "Would keep" if dry_run else "Keeping"
    cli.output.record(fields, f"{verb} {subject} for {_shown(limit)}; older than that: {counted(expired, 'document')}")


async def _audit(cli: Cli, store: Store, action: str, counts: Mapping[str, int]) -> None:
    """Write to the audit trail what is about to happen to the data of everybody."""
    from lkmongo.store.people.audit import Audit

    if cli.settings.audit != "off":
        await Audit(store.db).write(operator=cli.operator, action=action, tenant_id=None, counts=counts)


async def _shorten_audit(cli: Cli, store: Store, keep: timedelta | None, *, yes: bool, dry_run: bool) -> None:
    from lkmongo.store.people.audit import Audit
    from lkmongo.store.people.audit_chain import count_before, shorten

    number = await count_before(store.db, keep) if keep is not None else 0
    what = f"{counted(number, 'entry', 'entries')} of the audit trail"
    checkpoint = None
    if number and not dry_run:
        cli.confirm(f"Delete {what} that are older than {_shown(keep)}?", yes=yes)
        await Audit(store.db).write(
            operator=cli.operator, action="db retention audit", tenant_id=None, counts={"entries": number}
        )
    if keep is not None and not dry_run:
        checkpoint = await shorten(store.db, keep)
    fields = {
        "subject": "audit",
        "keep": _shown(keep),
        "deleted": number,
        "checkpoint": checkpoint.number if checkpoint else None,
        "problems": checkpoint.problems if checkpoint else 0,
        "dry_run": dry_run,
    }
    verb = "Would delete" if dry_run else "Deleted"
    cli.output.record(fields, f"{verb} {what}, older than {_shown(keep)}")
    if checkpoint and checkpoint.problems:
        cli.output.warn(f"{checkpoint.problems:,} of them or of those before were not as they were written")


def kept(limits: Sequence[Retention]) -> list[dict[str, str]]:
    """A row for each subject, also for `db status`."""
    return [{"subject": limit.subject, "keep": _shown(limit.keep)} for limit in limits]


def _shown(keep: timedelta | None) -> str:
    from lkmongo.times import show_duration

    return "forever" if keep is None else show_duration(keep)
