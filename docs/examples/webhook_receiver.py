"""A receiver of lkmongo's webhook: it checks the signature, drops what came before, answers at once and works later."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

TOLERANCE = 300
"""Seconds: an older request may be one that somebody has recorded and sends again."""


def verify(secret: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Return the event of a request; `body` is what was received, byte for byte.

    Raises:
        ValueError: it is not signed with this secret, or is too old.
    """
    event_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent_at.isdecimal() or abs(time.time() - int(sent_at)) > TOLERANCE:
        raise ValueError("the request is too old, or has no time")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{event_id}.{sent_at}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    given = headers.get("webhook-signature", "").split()
    if not any(hmac.compare_digest(expected.encode(), each.encode()) for each in given):
        raise ValueError("the request is not signed with this secret")
    event: dict[str, Any] = json.loads(body)
    return event


def receiver(secret: str, seen: set[str], ended: list[dict[str, Any]]) -> web.Application:
    """A web application with the receiver at /lkmongo.

    Args:
        secret: LKMONGO_WEBHOOK_SECRET.
        seen: ids of the events that came before; a real one is kept in a database.
        ended: gets the sessions that have ended; a real one is a queue that somebody works on.
    """

    async def receive(request: web.Request) -> web.Response:
        try:
            event = verify(secret, request.headers, await request.read())
        except ValueError as error:
            return web.Response(status=401, text=str(error))
        if event["type"] == "session.ended" and request.headers["webhook-id"] not in seen:
            seen.add(request.headers["webhook-id"])
            ended.append(event["data"])
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/lkmongo", receive)
    return app


if __name__ == "__main__":
    web.run_app(receiver(os.environ["LKMONGO_WEBHOOK_SECRET"], set(), []), host="127.0.0.1", port=8090)
