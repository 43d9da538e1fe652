"""`lkmongo memory suggestions|accept|decline`: what calls have taught, and somebody has to accept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lkmongo.cli.command import Cli, Tenant, User, command
from lkmongo.cli.memory import app
from lkmongo.cli.output import cut
from lkmongo.model import DEFAULT_TENANT

if TYPE_CHECKING:
    from lkmongo.after_end import Proposal

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


@command(app, "suggestions", data=True)
async def suggestions(cli: Cli, user: User, tenant: Tenant = DEFAULT_TENANT) -> None:
    """List what calls suggest to remember of a person, newest first.

    With LKMONGO_LEARN=suggest, what a language model learns from a call waits here until somebody accepts or declines
    it: staff, or the person on the talk page.
    """
    from lkmongo.model import UserScope
    from lkmongo.store.open import open_store
    from lkmongo.store.people.person import require_known

    scope = UserScope(tenant_id=tenant, user_id=user)
    async with open_store(cli.settings) as store:
        found = await store.learning.suggestions(scope)
        if not found:
            await require_known(store.db, user_id=user, tenant_id=tenant)
    cli.output.rows(
        _COLUMNS,
        (
            {
                "id": proposal.id,
                "change": _CHANGES[proposal.kind],
                "label": proposal.label,
                "content": cut(cli.output, proposal.content),
                "said_at": proposal.said_at,
                "session_id": record.session_id,
            }
            for record, proposal in found
        ),
        empty=f"Nothing waits to be accepted for {user} in tenant {tenant}",
    )


@command(app, "accept", data=True)
async def accept(cli: Cli, user: User, suggestion: Id, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Accept a suggestion: it is stored as said in the call.

    Exits with 5 if no suggestion of that id waits, and with 6 if what it is about was changed or forgotten since the
    call: nothing is stored then.
    """
    proposal = await _decide(cli, user, tenant, suggestion, "accepted")
    cli.output.record(_fields(user, tenant, proposal, "accepted"), f"Stored {proposal.label} of {user}")


@command(app, "decline", data=True)
async def decline(cli: Cli, user: User, suggestion: Id, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Decline a suggestion: nothing is stored, and what it said is deleted."""
    proposal = await _decide(cli, user, tenant, suggestion, "declined")
    cli.output.record(_fields(user, tenant, proposal, "declined"), f"Declined {proposal.label} of {user}")


async def _decide(
    cli: Cli, user: str, tenant: str, suggestion: str, decision: Literal["accepted", "declined"]
) -> Proposal:
    from lkmongo.model import UserScope
    from lkmongo.outbox.learned import decide
    from lkmongo.store.open import open_store

    async with open_store(cli.settings) as store:
        return await decide(store, UserScope(tenant_id=tenant, user_id=user), suggestion, decision)


def _fields(user: str, tenant: str, proposal: Proposal, state: str) -> dict[str, str]:
    return {"user_id": user, "tenant_id": tenant, "id": proposal.id, "label": proposal.label, "state": state}
