"""Which telephone numbers are whose, for programs: `Memory.phones`, which takes ids and numbers as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lkmongo.memory.records import Opened
from lkmongo.model import DEFAULT_TENANT, TenantScope, UserScope

if TYPE_CHECKING:
    from lkmongo.phone_numbers import PhoneNumber
    from lkmongo.settings import Settings
    from lkmongo.store.people.phone_links import KnownNumber, Linked
    from lkmongo.store.people.phones import PhoneLink
    from lkmongo.tenant_phone import TenantPhone


class Phones:
    """Whose telephone number it is, and the PIN of a person: `Memory.phones`.

    A number is written as `+49 30 1234567`, or without its country where the settings name one. It is stored as a keyed
    hash with its last two digits, and a PIN as a slow hash: neither can be read again, and no error repeats it. Needs
    the extra `phone`, and LKMONGO_ERASURE_KEY for any but the embedded MongoDB. Beside what each method says, all raise
    what those of `Memory.people` do.
    """

    def __init__(self, opened: Opened, settings: Settings) -> None:
        self._opened = opened
        self._settings = settings

    async def list(
        self,
        user_id: str | None = None,
        *,
        tenant_id: str = DEFAULT_TENANT,
        after: str | None = None,
        limit: int = 50,
    ) -> Sequence[KnownNumber]:
        """The numbers of a person, or those of a tenant's people ordered by id.

        Args:
            user_id: the person; by default everybody.
            tenant_id: the tenant.
            after: of everybody, start after this id, the last of the page before.
            limit: of everybody, how many at most; those of one person are never parted.

        Returns:
            Each with its `link` (whose, last two digits, since when, last used, by whom), whether it has `lapsed` as it
            was not used for long, `has_pin`, and `locked_until`.

        Raises:
            NotFoundError: nothing is stored about the person.
        """
        from lkmongo.store.people.phone_links import list_links, numbers_of

        store, recycled_after = await self._opened(), self._policy(tenant_id).recycled_after
        if user_id is not None:
            return await numbers_of(
                store, UserScope(tenant_id=tenant_id, user_id=user_id), recycled_after=recycled_after
            )
        found = await list_links(store, TenantScope(tenant_id), recycled_after=recycled_after, after=after, limit=limit)
        return found.numbers

    async def lookup(self, number: str, *, tenant_id: str = DEFAULT_TENANT) -> Sequence[KnownNumber]:
        """Whose number it is, the one who used it last first; empty if it is linked to nobody.

        Raises:
            UsageError: it is no telephone number, or numbers cannot be used here.
        """
        from lkmongo.store.people.phone_links import lookup

        store, wanted = await self._opened(), self._number(number, tenant_id)
        recycled_after = self._policy(tenant_id).recycled_after
        return await lookup(store, TenantScope(tenant_id), wanted, recycled_after=recycled_after)

    async def link(
        self, user_id: str, number: str, *, tenant_id: str = DEFAULT_TENANT, new: bool = False, dry_run: bool = False
    ) -> Linked:
        """Link a number to a person, who is recognised when they call from it. Repeating it counts as a use of it.

        Args:
            user_id: the person.
            number: theirs; others may have it, too.
            tenant_id: their tenant.
            new: also when nothing is stored about them yet.
            dry_run: only say what would change.

        Raises:
            NotFoundError: nothing is stored about them, and they are not `new`.
            UsageError: it is no telephone number, or numbers cannot be used here.
        """
        from lkmongo.store.people.phone_links import link_known

        store, scope = await self._opened(), UserScope(tenant_id=tenant_id, user_id=user_id)
        return await link_known(store, scope, self._number(number, tenant_id), by="program", new=new, dry_run=dry_run)

    async def unlink(
        self,
        user_id: str,
        number: str | None = None,
        *,
        last_digits: str | None = None,
        tenant_id: str = DEFAULT_TENANT,
        dry_run: bool = False,
    ) -> Sequence[PhoneLink]:
        """Take a number from a person, or those that end in `last_digits`, or all of theirs; returns which.

        Raises:
            NotFoundError: nothing is stored about them, or no such number is linked to them.
            UsageError: it is no telephone number, or those are not two digits.
        """
        from lkmongo.store.people.phone_links import unlink_known

        store, scope = await self._opened(), UserScope(tenant_id=tenant_id, user_id=user_id)
        wanted = None if number is None else self._number(number, tenant_id)
        return await unlink_known(store, scope, wanted, last_digits=last_digits, dry_run=dry_run)

    async def set_pin(self, user_id: str, pin: str, *, tenant_id: str = DEFAULT_TENANT) -> bool:
        """Set the PIN with which a person proves on the keypad who they are; returns whether they had another.

        Raises:
            NotFoundError: nothing is stored about them.
            UsageError: it is no PIN, or PINs cannot be used here.
        """
        from lkmongo.store.people.phone_links import set_pin

        store, scope = await self._opened(), UserScope(tenant_id=tenant_id, user_id=user_id)
        return await set_pin(store, scope, pin, by="program")

    async def clear_pin(self, user_id: str, *, tenant_id: str = DEFAULT_TENANT) -> bool:
        """Remove a person's PIN; returns whether they had one.

        Raises:
            NotFoundError: nothing is stored about them.
        """
        from lkmongo.store.people.phone_links import clear_pin

        return await clear_pin(await self._opened(), UserScope(tenant_id=tenant_id, user_id=user_id))

    async def unlock_pin(self, user_id: str, *, tenant_id: str = DEFAULT_TENANT) -> bool:
        """Let a person try their PIN again now, after too many wrong ones; returns whether there were any.

        Raises:
            NotFoundError: nothing is stored about them.
        """
        from lkmongo.store.people.phone_links import unlock_pin

        return await unlock_pin(await self._opened(), UserScope(tenant_id=tenant_id, user_id=user_id))

    def _policy(self, tenant_id: str) -> TenantPhone:
        return self._settings.tenant_policies().policy(tenant_id).phone

    def _number(self, text: str, tenant_id: str) -> PhoneNumber:
        from lkmongo.phone_numbers import parse_number

        return parse_number(text, self._policy(tenant_id).region)
