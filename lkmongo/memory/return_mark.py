"""By what a client that comes back is told from somebody who joins with a copy of its token.

A client that has lost its connection for some seconds connects anew, and LiveKit puts it in the place of the
participant that it was: just as it does with a copy. But LiveKit sends a client a new token whenever an attribute of
its participant changes, and the clients of its SDKs connect anew with that one. So the participant who is served gets
an attribute with a random value. Who comes with it has what only the client itself was sent; a copy of the token that
was given out has it not. Others in the room can see the value, but sign no token with it.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from typing import TYPE_CHECKING

from lkmongo import livekit_api
from lkmongo.backoff import Backoff
from lkmongo.errors import LkmongoError

if TYPE_CHECKING:
    from livekit import rtc

    from lkmongo.settings import LiveKitCredentials

logger = logging.getLogger(__name__)

ATTRIBUTE = "lkmongo.return"
_TRIES_FOR = 30.0
"""Seconds for which it is tried to set the attribute while LiveKit does not answer."""


class ReturnMark:
    """The mark of one session, on the participant who is served."""

    def __init__(self, credentials: LiveKitCredentials, room_name: str) -> None:
        """Mark nobody yet; `give` does."""
        self._credentials = credentials
        self._room_name = room_name
        self._value = secrets.token_urlsafe(16)
        self._giving: asyncio.Task[None] | None = None

    def is_on(self, participant: rtc.RemoteParticipant) -> bool:
        """Whether it has come with them."""
        return hmac.compare_digest(participant.attributes.get(ATTRIBUTE, "").encode(), self._value.encode())

    def give(self, participant: rtc.RemoteParticipant) -> None:
        """Mark them in the background, unless they are; a telephone has no token."""
        from livekit import rtc

        if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD and not self.is_on(participant):
            self.close()
            self._giving = asyncio.create_task(self._give(participant.identity))

    def close(self) -> None:
        """Mark nobody any more."""
        if self._giving:
            self._giving.cancel()

    async def _give(self, identity: str) -> None:
        backoff = Backoff(_TRIES_FOR)
        while True:
            try:
                await livekit_api.set_attributes(self._credentials, self._room_name, identity, {ATTRIBUTE: self._value})
            except LkmongoError as error:
                if not await backoff.pause():
                    logger.info("a caller who comes back would be taken for another one: %s", error.message)
                    return
            else:
                return
