"""Whose caller somebody on the telephone is: that of the tenant whose number was dialled."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING

from lkmongo import deadlines
from lkmongo.phone_numbers import DIALLED, dialled_number

if TYPE_CHECKING:
    from livekit import rtc

    from lkmongo.tenants import Tenants

logger = logging.getLogger(__name__)


async def tenant_of_call(room: rtc.Room, tenants: Tenants) -> str | None:
    """Wait a moment for whoever calls, and return the tenant whose number they dialled, as `tenant_dialled` does.

    None as well for somebody who does not come by telephone, and for nobody.

    Args:
        room: that the agent has joined.
        tenants: their numbers.
    """
    news = asyncio.Event()

    def wake(*_: object) -> None:
        news.set()

    room.on("participant_connected", wake)
    room.on("participant_attributes_changed", wake)
    try:
        async with asyncio.timeout(deadlines.DIALLED):
            while True:
                news.clear()
                for caller in _callers(room):
                    if not is_telephone(caller):
                        return None
                    if caller.attributes.get(DIALLED):
                        return tenant_dialled(caller, tenants)
                await news.wait()
    except TimeoutError:
        logger.info("the default tenant: nobody has come, or the number that they dialled is not known yet")
        return None
    finally:
        room.off("participant_connected", wake)
        room.off("participant_attributes_changed", wake)


def tenant_dialled(participant: rtc.Participant, tenants: Tenants) -> str | None:
    """The tenant whose number a SIP participant has dialled; None if nobody has it, which is logged once a call.

    None as well while the participant has no attribute that says it, which may come later.

    Args:
        participant: of kind SIP.
        tenants: their numbers; the country of a number that names none is that of their default.
    """
    if not tenants.by_number:
        return None
    number = dialled_number(participant.attributes, tenants.default.phone.region)
    if number is None:
        return None
    tenant_id = tenants.dialled(number)
    if tenant_id is None:
        _tell_unknown(participant.sid, number.last_digits)
    return tenant_id


@functools.lru_cache(maxsize=64)
def _tell_unknown(_call: str, last_digits: str) -> None:
    logger.warning("unknown number dialled: the default tenant (it ends in %s)", last_digits)


def _callers(room: rtc.Room) -> list[rtc.RemoteParticipant]:
    """Everybody but agents, recorders and streams, whoever is on the telephone first."""
    from livekit.agents.job import DEFAULT_PARTICIPANT_KINDS

    present = [each for each in room.remote_participants.values() if each.kind in DEFAULT_PARTICIPANT_KINDS]
    return sorted(present, key=is_telephone, reverse=True)


def is_telephone(participant: rtc.Participant) -> bool:
    """Whether LiveKit says that this is a telephone."""
    from livekit.rtc import ParticipantKind

    return participant.kind == ParticipantKind.PARTICIPANT_KIND_SIP
