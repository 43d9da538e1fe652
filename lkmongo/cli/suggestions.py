"""`lkmongo memory suggestions|accept|decline`: what calls have taught, and somebody has to accept."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from lkmongo.cli.command import Cli, Tenant, User, command
from lkmongo.cli.memory import app
from lkmongo.cli.output import cut
from lkmongo.model import DEFAULT_TENANT

Id = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the suggestion; see memory suggestions.", show_default=False)
]
_COLUMNS = ("id", "change", "label", "content", "said_at", "session_id")
_CHANGES = {
    "new": "remember",
    "changed": "change",
    "ended": "no longer true",
    "preference": "remember",
    "profile": "fill the profile",
}
_OFFERED = {"conflict": "keep what the guest had", "instruction": "keep the guest's instruction"}


@command(app, "suggestions", data=True, audited=True)
async def suggestions(cli: Cli, user: User, tenant: Tenant = DEFAULT_TENANT) -> None:
    """List what waits until somebody accepts or declines it: staff, or the person on the talk page.

    That is what a language model learned from a call, with LKMONGO_LEARN=suggest; and, of a guest who logged in, what
    the account has another value for, or what reads as an instruction to the assistant.
    """
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.offers import offers_of
    from lkmongo.store.people.person import require_known

    scope = UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        found, offered = await store.learning.suggestions(scope), await offers_of(store.db, scope)
        if not (found or offered):
            await require_known(store.db, user_id=user, tenant_id=tenant)
        await cli.audit(store, scope, {"suggestions": len(found) + len(offered)})
    rows = [
        {
            "id": proposal.id,
            "change": _CHANGES[proposal.kind],
            "label": proposal.label,
            "content": cut(cli.output, proposal.content),
            "said_at": proposal.said_at,
            "session_id": record.session_id,
        }
        for record, proposal in found
    ]
    rows += [
        {
            "id": offer.id,
            "change": _OFFERED[offer.why],
            "label": offer.label,
            "content": cut(cli.output, offer.content),
            "said_at": offer.said_at,
            "session_id": None,
        }
        for offer in offered
    ]
    cli.output.rows(_COLUMNS, rows, empty=f"Nothing waits to be accepted for {user} in tenant {tenant}")


@command(app, "accept", data=True, audited=True)
async def accept(cli: Cli, user: User, suggestion: Id, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Accept a suggestion: it is stored as said in the call, or what a guest had as the account's value.

    Exits with 5 if no suggestion of that id waits, and with 6 if what it is about was changed or forgotten since the
    call: nothing is stored then.
    """
    label = await _decide(cli, user, tenant, suggestion, "accepted")
    cli.output.record(_fields(user, tenant, suggestion, label, "accepted"), f"Stored {label} of {user}")


@command(app, "decline", data=True, audited=True)
async def decline(cli: Cli, user: User, suggestion: Id, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Decline a suggestion: nothing is stored, and what it said is deleted."""
    label = await _decide(cli, user, tenant, suggestion, "declined")
    cli.output.record(_fields(user, tenant, suggestion, label, "declined"), f"Declined {label} of {user}")


async def _decide(cli: Cli, user: str, tenant: str, suggestion: str, decision: Literal["accepted", "declined"]) -> str:
    from lkmongo.model import UserScope
    from lkmongo.outbox.learned import decide
    from lkmongo.store.open import open_store

    scope = UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        await cli.audit(store, scope, {"suggestions": 1})
        return await decide(store, scope, suggestion, decision)


def _fields(user: str, tenant: str, suggestion: str, label: str, state: str) -> dict[str, str]:
    return {"user_id": user, "tenant_id": tenant, "id": suggestion, "label": label, "state": state}
