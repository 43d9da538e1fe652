"""Somebody of whom nothing is remembered is told from an id that is nobody's."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from lkmongo.cli.command import DEFAULT_TENANT

if TYPE_CHECKING:
    from lkmongo.errors import NotFoundError
    from lkmongo.model import UserScope
    from lkmongo.store.open import Store
    from lkmongo.store.sessions.listing import SessionFilter

ELSEWHERE = "what a worker that cannot reach MongoDB may hold of that id until now is not stored later either"
"""What holds where an id is nobody's here, and the command all the same kept something from coming later."""
_LOOKED_AT = 1_000
"""Ids among which one is looked for that may have been meant."""


async def check_known(store: Store, scope: UserScope) -> None:
    """See that something is kept of the person: a profile, a memory, a call, an order, ...

    Raises:
        NotFoundError: nothing is.
    """
    from lkmongo.store.people.person import is_known

    if not await is_known(store.db, scope):
        raise await unknown(store, scope)


async def check_caller_known(store: Store, wanted: SessionFilter) -> None:
    """See that something is kept of the person whose calls are meant, if those of one person are.

    Raises:
        NotFoundError: nothing is.
    """
    from lkmongo.errors import NotFoundError
    from lkmongo.model import UserScope
    from lkmongo.store.people.person import is_known

    if wanted.user_id is None:
        return
    if wanted.tenant_id is not None:
        await check_known(store, UserScope(tenant_id=wanted.tenant_id, user_id=wanted.user_id))
        return
    for tenant in await store.users.tenants():
        if await is_known(store.db, UserScope(tenant_id=tenant, user_id=wanted.user_id)):
            return
    raise NotFoundError(
        f"nothing is kept of {wanted.user_id} in any tenant", hint="check the id; lkmongo users list --all-tenants"
    )


async def unknown(store: Store, scope: UserScope, *, why: str | None = None) -> NotFoundError:
    """The error for an id that is nobody's; it names those that may have been meant."""
    from difflib import get_close_matches

    from lkmongo.errors import NotFoundError
    from lkmongo.store.mongo.schema import PERSONAL

    people = [person["user_id"] for person in await store.users.page(scope.tenant, limit=_LOOKED_AT)]
    near = get_close_matches(scope.user_id, people, cutoff=0.75)
    other = "" if scope.tenant_id == DEFAULT_TENANT else f" --tenant {shlex.quote(scope.tenant_id)}"
    first = f"did you mean {' or '.join(near)}?" if near else "check the id and --tenant;"
    return NotFoundError(
        f"nothing is kept of {scope.user_id} in tenant {scope.tenant_id}",
        why="\n".join(filter(None, [f"looked at the collections {', '.join(PERSONAL)}", why])),
        hint=f"{first} lkmongo users list{other}",
    )
