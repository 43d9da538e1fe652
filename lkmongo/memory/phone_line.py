"""The telephone in a room: from a participant of kind SIP to the caller's number and the tenant they have dialled.

LiveKit may give the attributes of a participant after the participant. Who came with dispatch metadata, or with a seal,
is known better than by a number.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from lkmongo.agent.caller_session import CallerSession
from lkmongo.agent.phone_caller import PhoneCaller
from lkmongo.errors import LkmongoError
from lkmongo.phone_numbers import PhoneNumber, Withheld, dialled_number, number_of_caller

if TYPE_CHECKING:
    from livekit import rtc

    from lkmongo.tenants import Tenants

logger = logging.getLogger(__name__)


class PhoneLine:
    """Tells the session of a caller who is on the telephone."""

    def __init__(self, session: CallerSession, tenants: Tenants) -> None:
        self._session = session
        self._tenants = tenants
        self._caller: PhoneCaller | None = None
        self._connecting: asyncio.Task[None] | None = None

    def resume(self, trust: str) -> None:
        """A call by telephone goes on whose agent has died: no more is known of who speaks than was known then."""
        self._phone().resume(trust)

    def take(self, participant: rtc.Participant) -> bool:
        """Look whether the caller is on the telephone, and what their number is, as far as that is there yet.

        Returns:
            Whether they are, and are known by nothing better.
        """
        from livekit import rtc

        caller = self._session.caller
        if participant.kind != rtc.ParticipantKind.PARTICIPANT_KIND_SIP or not (caller.phone or caller.guest):
            return False
        phone = self._phone()
        if self._connecting is None:
            attributes = dict(participant.attributes)
            dialled = dialled_number(attributes)
            tenant_id = self._tenants.dialled(dialled) if dialled else None
            policy = self._tenants.policy(tenant_id or caller.scope.tenant_id)
            number = number_of_caller(attributes, participant.identity, policy.phone.region)
            if number is not None:
                if self._tenants.by_number and tenant_id is None:
                    last = f"ends in {dialled.last_digits}" if dialled else "is not said"
                    logger.warning("no tenant has the number dialled, which %s: it is the default tenant's call", last)
                self._connecting = asyncio.create_task(self._connect(phone, tenant_id, number))
        return True

    async def _connect(self, phone: PhoneCaller, tenant_id: str | None, number: PhoneNumber | Withheld) -> None:
        try:
            if tenant_id:
                await self._session.move_guest(tenant_id)
                phone.tenant_is(tenant_id)
        except LkmongoError as error:
            logger.warning("the caller could not be moved to the tenant that they dialled: %s", error.message)
        phone.calls_from(number)

    def _phone(self) -> PhoneCaller:
        if self._caller is None:
            self._session.caller.phone = self._caller = PhoneCaller(self._session, self._tenants)
            self._session.caller.on_change()
        return self._caller
