"""The telephone in a room: from a participant of kind SIP to the caller's number and the tenant they have dialled.

LiveKit may give the attributes of a participant after the participant. Who came with dispatch metadata, or with a seal,
is known better than by a number.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.dialled import is_telephone, tenant_dialled
from lkmongo.agent.other_guest import move_guest
from lkmongo.agent.phone_caller import PhoneCaller
from lkmongo.errors import LkmongoError
from lkmongo.phone_numbers import PhoneNumber, Withheld, number_of_caller

if TYPE_CHECKING:
    from livekit import rtc

    from lkmongo.model import UserScope
    from lkmongo.tenants import Tenants

logger = logging.getLogger(__name__)


class PhoneLine:
    """Tells the session of a caller who is on the telephone."""

    def __init__(self, session: CallerSession, tenants: Tenants, *, by_number: bool = True) -> None:
        """Tell `session` nothing yet, unless it is resumed.

        Args:
            session: the caller's.
            tenants: their numbers, and how they trust those of callers.
            by_number: the number dialled says whose caller they are; False where the dispatch has said it.
        """
        self._session = session
        self._tenants = tenants
        self._by_number = by_number
        self._caller: PhoneCaller | None = None
        self._connecting: asyncio.Task[None] | None = None
        if trust := session.recorder.record.trust:  # that of an agent who died: no more is known of who speaks
            self._phone().resume(trust)
        session.caller.may_phone = session.caller.guest or trust is not None

    def expect(self, person: UserScope, number: PhoneNumber) -> None:
        """The agent calls this person: whoever answers may be them."""
        self._phone().expect(person, number)

    def take(self, participant: rtc.Participant) -> bool:
        """Look whether the caller is on the telephone, and what their number is, as far as that is there yet.

        Returns:
            Whether they are, and are known by nothing better.
        """
        caller = self._session.caller
        if not is_telephone(participant) or not (caller.phone or caller.guest):
            return False
        phone = self._phone()
        if self._connecting is None:
            tenant_id = tenant_dialled(participant, self._tenants) if self._by_number else None
            policy = self._tenants.policy(tenant_id or caller.scope.tenant_id)
            number = number_of_caller(dict(participant.attributes), participant.identity, policy.phone.region)
            if number is not None:
                self._connecting = asyncio.create_task(self._connect(phone, tenant_id, number))
        return True

    async def _connect(self, phone: PhoneCaller, tenant_id: str | None, number: PhoneNumber | Withheld) -> None:
        try:
            if tenant_id:
                await move_guest(self._session, tenant_id)
                phone.tenant_is(tenant_id)
        except LkmongoError as error:
            logger.warning("the caller could not be moved to the tenant that they dialled: %s", error.message)
        phone.calls_from(number)

    def close(self) -> None:
        """Find out nothing any more."""
        if self._connecting:
            self._connecting.cancel()
        if self._caller:
            self._caller.close()

    def _phone(self) -> PhoneCaller:
        if self._caller is None:
            self._session.caller.phone = self._caller = PhoneCaller(self._session, self._tenants)
            self._session.caller.on_change()
        return self._caller
