"""The webhook: a signed POST request that tells of the end of a session, by the Standard Webhooks specification.

`Notify` and recovery only store that it is due. It is delivered by the session's own process at once, and by any other
later: until the receiver accepts it, or the schedule is over. What was said is not in it.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import hmac
import json
import logging
import shlex
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import urlsplit

import lkmongo
from lkmongo import backoff, deadlines
from lkmongo.aio import few_at_once, poll
from lkmongo.errors import UnreachableError, connection_failure
from lkmongo.invisible import safe_json
from lkmongo.model import SessionRecord, SessionStatus, TurnTotals, UserScope, now
from lkmongo.settings import Settings
from lkmongo.store.mongo import operations
from lkmongo.store.mongo.schema import TURNS
from lkmongo.store.open import Store
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.sessions.documents import lease_owner
from lkmongo.store.sessions.listing import with_totals

logger = logging.getLogger(__name__)

EVENT = "session.ended"
POLL_INTERVAL = 5.0
"""Seconds between two searches for webhooks that are due."""
_GONE = 410
"""The HTTP status of a receiver that wants no more requests."""
_BATCH = 200
_AT_ONCE = 8

Outcome = Literal["delivered", "failed", "given up"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the webhook is sent, and the key that signs it."""

    url: str
    key: bytes

    def __repr__(self) -> str:
        return f"Endpoint({self.host})"  # the path and the key may be secret

    @classmethod
    def of(cls, settings: Settings) -> Endpoint | None:
        """The endpoint that is set, if any.

        Raises:
            SettingsError: the secret is missing.
        """
        return cls(*settings.webhook) if settings.webhook else None

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def headers(self, event_id: str, sent_at: int, body: bytes) -> dict[str, str]:
        """The headers of a request, with the signature of its id, time (in seconds) and body."""
        signed = f"{event_id}.{sent_at}.".encode() + body
        signature = base64.b64encode(hmac.new(self.key, signed, hashlib.sha256).digest()).decode()
        return {
            "Content-Type": "application/json",
            "User-Agent": f"lkmongo/{lkmongo.__version__}",
            "webhook-id": event_id,
            "webhook-timestamp": str(sent_at),
            "webhook-signature": f"v1,{signature}",
        }

    async def post(self, event_id: str, body: bytes, *, within: float = deadlines.WEBHOOK) -> int:
        """Send a request, without following a redirect; returns the HTTP status, whatever it is.

        Args:
            event_id: the same in every attempt.
            body: JSON.
            within: seconds until the answer.

        Raises:
            UnreachableError: there was no answer; `why` says more.
        """
        return await self._request("POST", self.headers(event_id, int(time.time()), body), body, within)

    async def look(self, within: float) -> int:
        """Ask whether anybody is there, without an event; returns and raises as `post` does."""
        return await self._request("HEAD", {}, None, within)

    async def _request(self, method: str, headers: dict[str, str], body: bytes | None, within: float) -> int:
        import aiohttp

        try:
            # Of the answer only the status is read.
            async with (
                asyncio.timeout(within),
                aiohttp.ClientSession(trust_env=True) as client,
                client.request(method, self.url, headers=headers, data=body, allow_redirects=False) as response,
            ):
                return response.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UnreachableError(
                f"the webhook's receiver at {self.host} does not answer",
                why=connection_failure(error, round(within, 1)),
                hint="check LKMONGO_WEBHOOK_URL and the network",
            ) from error


def body_of(record: SessionRecord) -> bytes:
    """What is sent of a session that has ended; `record` with its totals."""
    totals, scope = record.totals or TurnTotals(), record.scope
    command = ["lkmongo", "sessions", "show", record.session_id, "--user", scope.user_id, "--tenant", scope.tenant_id]
    told = {
        "type": EVENT,
        "timestamp": _iso(record.ended_at or now()),
        "data": {
            "session_id": record.session_id,
            "tenant_id": scope.tenant_id,
            "user_id": scope.user_id,
            "guest": scope.is_guest,
            "room_name": record.room_name,
            "status": record.status,
            "close_reason": record.close_reason,
            "started_at": _iso(record.started_at),
            "ended_at": _iso(record.ended_at),
            "length_seconds": record.length / timedelta(seconds=1) if record.length is not None else None,
            "turns": totals.turns,
            "tool_errors": totals.tool_errors,
            "changes": record.report.get("changes", 0 if record.status == SessionStatus.COMPLETE else None),
            "record": shlex.join(command),
        },
    }
    return safe_json(json.dumps(told, ensure_ascii=False, separators=(",", ":"))).encode()


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None


async def deliver(
    store: Store, endpoint: Endpoint, scope: UserScope, session_id: str, owner: str | None = None
) -> Outcome | None:
    """Make one attempt to deliver a session's webhook, and note the answer.

    Args:
        store: the database.
        endpoint: the receiver.
        scope: whose session it is.
        session_id: the session.
        owner: who holds its lease, if it is alive.

    Returns:
        What became of it; None if it is not due, another process is at it, or the person was erased.

    Raises:
        DatabaseError: MongoDB failed; there will be another attempt.
    """
    owner = owner or lease_owner()
    loop = asyncio.get_running_loop()
    until = loop.time() + deadlines.WEBHOOK  # while the lease lasts
    record = await store.webhooks.claim(scope, session_id, owner)
    if record is None or record.webhook is None:
        return None
    webhook = record.webhook
    # As in a live session: an erasure sees the lease and waits, or its tombstone is seen here.
    if await Tombstones(store.db).bars_session(record):
        await store.webhooks.settle(record, owner, None)
        return None
    (told,) = await operations.read(lambda: with_totals(store.db[TURNS], [record]))
    try:
        status = await endpoint.post(webhook.event_id, body_of(told), within=until - loop.time())
    except UnreachableError as error:
        status, answer = 0, error.why or error.message
    else:
        answer = f"HTTP {status}"
    outcome: Outcome = "delivered" if 200 <= status < 300 else "failed"
    if outcome == "failed" and (status == _GONE or webhook.attempts > len(backoff.WEBHOOK_SCHEDULE)):
        outcome = "given up"
    await store.webhooks.settle(record, owner, answer, delivered=outcome == "delivered", given_up=outcome == "given up")
    if outcome == "given up":
        logger.warning("the webhook of session %s is given up at attempt %d: %s", session_id, webhook.attempts, answer)
    elif outcome == "failed":
        logger.info("the webhook of session %s is not delivered yet: %s", session_id, answer)
    return outcome


async def deliver_due(store: Store, endpoint: Endpoint) -> list[Outcome]:
    """Make one attempt for each webhook, of all users, that is due; returns what became of them.

    Raises:
        DatabaseError: MongoDB failed.
    """
    sessions = await store.webhooks.due(_BATCH)
    attempts = [functools.partial(deliver, store, endpoint, *session) for session in sessions]
    return [outcome for outcome in await few_at_once(attempts, _AT_ONCE) if outcome]


async def deliver_periodically(settings: Settings, store: Store) -> None:
    """Run `deliver_due` again and again; returns only if there is no webhook."""
    if endpoint := Endpoint.of(settings):
        await poll(lambda: deliver_due(store, endpoint), POLL_INTERVAL, "webhooks could not be looked up")
