"""`lkmongo memory`: show, search, correct, export and forget what is remembered of a person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lkmongo.cli.command import Cli, DryRun, Tenant, User, Yes, command
from lkmongo.cli.output import counted, cut, show_fields
from lkmongo.cli.search_view import Limit, Query
from lkmongo.model import DEFAULT_TENANT

if TYPE_CHECKING:
    from lkmongo.model import Source
    from lkmongo.store.people.forget import Forgotten

app = typer.Typer(name="memory", help="What is remembered of a person.", no_args_is_help=True, rich_markup_mode=None)


@command(app, "list", data=True, audited=True)
async def list_(cli: Cli, user: User, tenant: Tenant = DEFAULT_TENANT) -> None:
    """List what is remembered of a person, newest first."""
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import slots_of

    scope = UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        slots = await slots_of(store, scope)
        await cli.audit(store, scope, {"memories": len(slots)})
    cli.output.rows(
        ["memory_type", "content", "valid_from", "created_at", "updated_at"],
        (
            {
                "memory_type": slot.memory_type,
                "content": cut(cli.output, slot.content),
                "valid_from": slot.valid_from,
                "created_at": slot.created_at,
                "updated_at": slot.updated_at,
            }
            for slot in slots
        ),
        empty=f"Nothing is remembered of {user} in tenant {tenant}",
    )


@command(app, "show", data=True, audited=True)
async def show(
    cli: Cli,
    user: User,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="Label of the memory.", show_default=False)],
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Show one memory of a person: its content, its dates, and the model of its vector."""
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import slot_of

    scope = UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        slot, model = await slot_of(store, scope, label)
        await cli.audit(store, scope, {"memories": 1})
    fields = {
        "memory_type": slot.memory_type,
        "content": slot.content,
        "created_at": slot.created_at,
        "updated_at": slot.updated_at,
        "valid_from": slot.valid_from,
        "source": _source(slot.source),
        "dates": [{"words": each.words, "day": each.day and each.day.isoformat()} for each in slot.dates],
        "has_vector": model is not None,
        "embedding_model": model,
    }
    show_fields(cli.output, fields)


def _source(source: Source | None) -> dict[str, str | None] | None:
    if source is None:
        return None
    return {"how": source.how, "session_id": source.session_id, "item_id": source.item_id}


@command(app, "history", data=True, audited=True)
async def history(
    cli: Cli,
    user: User,
    label: Annotated[
        str | None, typer.Argument(metavar="[LABEL]", help="Only of this memory.", show_default=False)
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """List what was ever true of a person, by label, the newest value first.

    A value without an end is true now. Shows where each comes from: told in a call, learned from one, staff, or
    imported, with the session and its turn.
    """
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.corrections import history_known

    scope = UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        versions = await history_known(store, scope, label)
        await cli.audit(store, scope, {"values": len(versions)})
    cli.output.rows(
        ["memory_type", "content", "valid_from", "valid_to", "source", "session_id", "item_id"],
        (
            {
                "memory_type": each.memory_type,
                "content": cut(cli.output, each.content),
                "valid_from": each.valid_from,
                "valid_to": each.valid_to,
                "source": each.source and each.source.how,
                "session_id": each.source and each.source.session_id,
                "item_id": each.source and each.source.item_id,
            }
            for each in versions
        ),
        empty=f"Nothing is remembered of {user} in tenant {tenant}",
    )


@command(app, "set", data=True, audited=True)
async def set_(
    cli: Cli,
    user: User,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="Label of the memory.", show_default=False)],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="What is true.", show_default=False)],
    since: Annotated[
        str | None,
        typer.Option(
            "--valid-from", metavar="TIME", help="Since when: 2026-05-01, 2026-05, May, 2019, or an age such as 7d."
        ),
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    dry_run: DryRun = False,
) -> None:
    """Set one memory of a person by hand; the value that it had becomes a former one.

    The same rules hold as for the agent: secrets are refused. Sessions in progress know it one turn later. See `memory
    undo` for the way back. Exits with 5 when nothing is stored under that id.
    """
    from lkmongo.dates import start_of
    from lkmongo.model import UserScope, now
    from lkmongo.store.open import open_store
    from lkmongo.store.people.corrections import set_known
    from lkmongo.times import moment

    scope = UserScope(tenant_id=tenant, user_id=user)
    valid_from = (start_of(since, now()) or moment(since)) if since else None
    async with open_store(cli.settings) as store:
        planned = await set_known(store, scope, label, value, valid_from=valid_from, dry_run=True)
        await cli.audit(store, scope, {"memories": int(planned.changed)})
        done = await set_known(store, scope, label, value, valid_from=valid_from, dry_run=dry_run)
    was = done.instead_of.content if done.instead_of else None
    fields = {
        "user_id": user,
        "tenant_id": tenant,
        "dry_run": dry_run,
        "changed": done.changed,
        "memory_type": done.fact.memory_type,
        "content": done.fact.content,
        "valid_from": done.fact.valid_from,
        "instead_of": was,
    }
    name = f"{done.fact.memory_type} of {user} in tenant {tenant}"
    if not done.changed:
        sentence = f"{name} has that value already"
    else:
        sentence = f"{'Would set' if dry_run else 'Set'} {name}"
        sentence += f"; before, it was: {was}" if was is not None else ""
    cli.output.record(fields, sentence)


@command(app, "undo", data=True, audited=True)
async def undo(
    cli: Cli,
    user: User,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="Label of the memory.", show_default=False)],
    tenant: Tenant = DEFAULT_TENANT,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Give one memory of a person its last former value back, also after `memory set`, or when it was no longer true.

    What it says instead is dropped. What was forgotten cannot come back. Exits with 5 when there is no former value.
    """
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.corrections import undo_known

    scope, whose = UserScope(tenant_id=tenant, user_id=user), f"of {user} in tenant {tenant}"
    async with open_store(cli.settings) as store:
        await undo_known(store, scope, label, dry_run=True)
        await cli.audit(store, scope, {"memories": 1})
        done = await undo_known(
            store,
            scope,
            label,
            dry_run=dry_run,
            confirm=lambda planned: cli.confirm(
                f"Set {planned.fact.memory_type} {whose} back to: {planned.fact.content}?", yes=yes
            ),
        )
    was = done.instead_of.content if done.instead_of else None
    fields = {
        "user_id": user,
        "tenant_id": tenant,
        "dry_run": dry_run,
        "memory_type": done.fact.memory_type,
        "content": done.fact.content,
        "valid_from": done.fact.valid_from,
        "instead_of": was,
    }
    verb = "Would set" if dry_run else "Set"
    cli.output.record(fields, f"{verb} {done.fact.memory_type} {whose} back to: {done.fact.content}")


@command(app, "export", data=True, audited=True)
async def export(
    cli: Cli,
    user: User,
    tenant: Tenant = DEFAULT_TENANT,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-O", metavar="FILE", help="Write to this file, whole or not at all; - is stdout."),
    ] = None,
) -> None:
    """Write everything stored about a person as one JSON file that they can read, to answer an access request.

    It contains the profile, the memories, the orders, declared collections, and the sessions with every word; no
    vectors and no technical reports. Without -O it goes to stdout. Only its owner can read the file.
    """
    from lkmongo.files import whole_file
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import count_known
    from lkmongo.store.people.person import export as export_person

    cli.declare()
    scope = UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        counts = await count_known(store.db, scope)
        await cli.audit(store, scope, counts)
        if file is None or file == Path("-"):
            async for piece in export_person(store.db, scope):
                cli.output.write(piece)
            return
        with whole_file(file) as write:
            async for piece in export_person(store.db, scope):
                write(piece.encode())
    cli.output.record(
        {"user_id": user, "tenant_id": tenant, "file": str(file), "counts": counts},
        f"Wrote everything stored about {user} in tenant {tenant} to {file}",
    )


@command(app, "commitments", data=True, audited=True)
async def commitments(
    cli: Cli,
    user: User,
    tenant: Tenant = DEFAULT_TENANT,
    close: Annotated[
        list[str] | None,
        typer.Option("--close", metavar="ID", help="Close this one: it is done, or no longer wanted. Repeatable."),
    ] = None,
) -> None:
    """List what was agreed in a person's calls and is still to be done, the oldest first.

    The agent is told of them at the beginning of each call until they are closed.
    """
    from lkmongo.errors import NotFoundError
    from lkmongo.model import UserScope, now
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import require_known

    scope = UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        found = await store.summaries.open(scope)
        if not found:
            await require_known(store.db, user_id=user, tenant_id=tenant)
        if missing := [each for each in close or [] if each not in {one.id for one in found}]:
            raise NotFoundError(f"{user} has no open commitment {', '.join(missing)}", hint="see them without --close")
        await cli.audit(store, scope, {"commitments": len(found)})
        if close:
            await store.summaries.close(scope, close, now())
            found = tuple(each for each in found if each.id not in close)
    cli.output.rows(
        ["id", "by", "text", "made_at", "due", "session_id"],
        (
            {
                "id": each.id,
                "by": each.by,
                "text": cut(cli.output, each.text),
                "made_at": each.made_at,
                "due": each.due,
                "session_id": each.session_id,
            }
            for each in found
        ),
        empty=f"Nothing is still to be done for {user} in tenant {tenant}",
    )


@command(app, "forget", data=True, audited=True)
async def forget(
    cli: Cli,
    user: User,
    labels: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="LABEL", help="Forget only this slot; may be repeated."),
    ] = None,
    profile: Annotated[
        bool,
        typer.Option(
            "--profile", help="Also forget the profile: name, e-mail address, language, time zone and declared fields."
        ),
    ] = False,
    tenant: Tenant = DEFAULT_TENANT,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Forget what is remembered of a person: all slots, or those named with --type.

    What the next session would know of the last one is forgotten, too, so that nothing comes back through it. The
    profile stays without --profile. Orders stay, and what the person comes in by: browsers, telephone numbers and the
    PIN. Transcripts of sessions stay until `users erase` or `db retention`. Exits with 5 when nothing is stored under
    that id.
    """
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.forget import forget_known

    scope, whose = UserScope(tenant_id=tenant, user_id=user), f"of {user} in tenant {tenant}"
    async with open_store(cli.settings) as store:

        async def tell(found: Forgotten) -> None:
            await cli.audit(
                store, scope, {"memories": len(found.memory_types), "profile_fields": len(found.profile_fields)}
            )

        async def ask(found: Forgotten) -> None:
            await tell(found)
            cli.confirm(f"Forget {_in_words(found)} {whose}?", yes=yes)

        found = await forget_known(store, scope, labels or None, profile=profile, dry_run=dry_run, confirm=ask)
        await tell(found)
    fields = {
        "user_id": user,
        "tenant_id": tenant,
        "dry_run": dry_run,
        "memory_types": found.memory_types,
        "forgotten": found.deleted,
        "profile_fields": found.profile_fields,
        "last_call": found.last_session,
        "stays": [*([] if profile else ["profile"]), "orders", "phones", "transcripts"],
    }
    if not found:
        sentence = f"Nothing is remembered {whose}."
    elif dry_run:
        labels_in_words = f": {', '.join(found.memory_types)}" if found.memory_types else ""
        sentence = f"Would forget {_in_words(found)} {whose}{labels_in_words}."
    else:
        sentence = f"Forgot {_in_words(found)} {whose}."
    stays = f"{'Orders' if profile else 'The profile, orders'}, telephone numbers and the transcripts of sessions stay"
    cli.output.record(fields, f"{sentence} {stays}; see `users erase` and `db retention`.")


def _in_words(found: Forgotten) -> str:
    number = len(found.memory_types)
    parts = [counted(number, "memory", "memories")] if number else []
    parts += [f"the profile ({', '.join(found.profile_fields)})"] if found.profile_fields else []
    parts += ["what was known of the last session"] if found.last_session else []
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


@command(app, "search", data=True, audited=True)
async def search(cli: Cli, user: User, query: Query, limit: Limit = 5, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Search what is remembered of a person, by meaning and by words, as the agent does.

    Shows which strategy answered (see LKMONGO_SEARCH), and the rank of each memory by meaning and by words.
    """
    from lkmongo.cli.search_view import searching, show_memories
    from lkmongo.model import UserScope, clean_query
    from lkmongo.store.people.person import require_known

    scope, text = UserScope(tenant_id=tenant, user_id=user), clean_query(query)
    async with searching(cli) as (store, strategy):
        result = await strategy.memories(scope, text, limit)
        if not result.hits:
            await require_known(store.db, user_id=user, tenant_id=tenant)
        await cli.audit(store, scope, {"memories": len(result.hits)})
    show_memories(cli, result, empty=f"Nothing fitting is remembered of {user} in tenant {tenant}")
