"""`lkmongo memory`: look into what is remembered of a person, and forget it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lkmongo.cli.command import DEFAULT_TENANT, Cli, DryRun, Tenant, User, Yes, command
from lkmongo.cli.known import ELSEWHERE, check_known, unknown
from lkmongo.cli.output import cut, show_fields
from lkmongo.cli.search_view import Limit, Query

app = typer.Typer(help="What is remembered of a person.", no_args_is_help=True, rich_markup_mode=None)


@command(app, "list", data=True)
async def list_(cli: Cli, user: User, tenant: Tenant = DEFAULT_TENANT) -> None:
    """List what is remembered of a person, newest first."""
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store

    scope = UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        slots = await store.memories.slots(scope)
        if not slots:
            await check_known(store, scope)
    cli.output.rows(
        ["memory_type", "content", "created_at", "updated_at"],
        (
            {
                "memory_type": slot.memory_type,
                "content": cut(cli.output, slot.content),
                "created_at": slot.created_at,
                "updated_at": slot.updated_at,
            }
            for slot in slots
        ),
        empty=f"Nothing is remembered of {user} in tenant {tenant}",
    )


@command(app, "show", data=True)
async def show(
    cli: Cli,
    user: User,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="Label of the memory.", show_default=False)],
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Show one memory of a person: its content, its dates, and which model made its vector."""
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store

    scope = UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        slot = await store.memories.recall(scope, label)
        if slot is None:
            await check_known(store, scope)
            raise _no_memory(user, tenant, label)
        model = await store.memories.vector_model(scope, label)
    fields = {
        "memory_type": slot.memory_type,
        "content": slot.content,
        "created_at": slot.created_at,
        "updated_at": slot.updated_at,
        "has_vector": model is not None,
        "embedding_model": model,
    }
    show_fields(cli.output, fields)


@command(app, "export", data=True)
async def export(
    cli: Cli,
    user: User,
    tenant: Tenant = DEFAULT_TENANT,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-O", metavar="FILE", help="Write to this file, whole or not at all; - is stdout."),
    ] = None,
) -> None:
    """Write all that is kept of a person as one JSON file that they can read: for an access request.

    It holds the profile, the memories, the orders, and the calls with every word; no vectors and no technical reports.
    Without -O it goes to stdout. A file can be read by its owner alone.
    """
    from lkmongo.files import whole_file
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import count
    from lkmongo.store.people.person import export as export_person

    scope = UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        counts = await count(store.db, scope)
        if not any(counts.values()):
            raise await unknown(store, scope)
        if file is None or file == Path("-"):
            async for piece in export_person(store.db, scope):
                cli.output.write(piece)
            return
        with whole_file(file) as write:
            async for piece in export_person(store.db, scope):
                write(piece.encode())
    cli.output.record(
        {"user_id": user, "tenant_id": tenant, "file": str(file), "counts": counts},
        f"Wrote all that is kept of {user} in tenant {tenant} to {file}",
    )


@command(app, "forget", data=True)
async def forget(
    cli: Cli,
    user: User,
    labels: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="LABEL", help="Forget this slot only; may be given several times."),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also their name, e-mail address, language and time zone.")
    ] = False,
    tenant: Tenant = DEFAULT_TENANT,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Forget what is remembered of a person: all slots, or those named with --type.

    What the next call would know of the last one goes too, so that nothing forgotten comes back through it.
    The profile stays without --profile, and orders stay. The transcripts of calls stay until `users erase` or
    `db retention`. Exits with 5 when nothing is kept of that id.
    """
    from lkmongo.model import PROFILE_FIELDS, UserScope, slot_name
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import is_known

    scope = UserScope(tenant_id=tenant, user_id=user)
    names = list(dict.fromkeys(slot_name(label) for label in labels)) if labels else None
    async with open_store(cli.settings) as store:
        slots = [slot.memory_type for slot in await store.memories.slots(scope)]
        if not slots and not await is_known(store.db, scope):
            if names is not None or dry_run:
                raise await unknown(store, scope)
            await store.memories.forget(scope)
            raise await unknown(store, scope, why=ELSEWHERE)
        if missing := [name for name in names or [] if name not in slots]:
            raise _no_memory(user, tenant, ", ".join(missing))
        known = await store.users.get(scope)
        fields_known = [name for name in PROFILE_FIELDS if profile and getattr(known, name, None)]
        last_call = known is not None and known.last_session is not None
        chosen = slots if names is None else names
        counted = _counted(len(chosen), fields_known, last_call=last_call)
        deleted = 0
        if not dry_run:
            if counted:
                cli.confirm(f"Forget {counted} of {user} in tenant {tenant}?", yes=yes)
            # Without anything to be seen too: a call that goes on must not store what was said before.
            deleted = await store.memories.forget(scope, names)
            if profile:
                await store.users.forget_profile(scope)
    fields = {
        "user_id": user,
        "tenant_id": tenant,
        "dry_run": dry_run,
        "memory_types": chosen,
        "forgotten": deleted,
        "profile_fields": fields_known,
        "last_call": last_call,
        "stays": ["orders", "transcripts"] if profile else ["profile", "orders", "transcripts"],
    }
    whose = f"of {user} in tenant {tenant}"
    if not counted:
        sentence = f"Nothing is remembered {whose}."
    elif dry_run:
        sentence = f"Would forget {counted} {whose}" + (f": {', '.join(chosen)}." if chosen else ".")
    else:
        sentence = f"Forgot {counted} {whose}."
    stays = f"{'Orders' if profile else 'The profile, orders'} and the transcripts of calls stay"
    cli.output.record(fields, f"{sentence} {stays}; see `users erase` and `db retention`.")


def _counted(memories: int, profile_fields: Sequence[str], *, last_call: bool) -> str:
    """What is forgotten, in words; empty when that is nothing."""
    parts = [f"{memories:,} {'memory' if memories == 1 else 'memories'}"] if memories else []
    parts += [f"the profile ({', '.join(profile_fields)})"] if profile_fields else []
    parts += ["what was known of the last call"] if last_call else []
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


@command(app, "search", data=True)
async def search(cli: Cli, user: User, query: Query, limit: Limit = 5, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Search what is remembered of a person, by meaning and by words, as the agent does.

    It shows which strategy answered (see LKMONGO_SEARCH), and the rank of each memory by meaning and by words.
    """
    from lkmongo.cli.search_view import asked_for, searching, show_memories
    from lkmongo.model import UserScope

    scope, text = UserScope(tenant_id=tenant, user_id=user), asked_for(query)
    async with searching(cli) as (store, strategy):
        result = await strategy.memories(scope, text, limit)
        if not result.hits:
            await check_known(store, scope)
    show_memories(cli, result, empty=f"Nothing fitting is remembered of {user} in tenant {tenant}")


def _no_memory(user: str, tenant: str, labels: str) -> Exception:
    from lkmongo.errors import NotFoundError

    return NotFoundError(
        f"{user} has no memory called {labels}",
        hint=shlex.join(
            ["lkmongo", "memory", "list", user, *([] if tenant == DEFAULT_TENANT else ["--tenant", tenant])]
        ),
    )
