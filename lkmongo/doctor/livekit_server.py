"""LiveKit: whether it is there and takes the key."""

from __future__ import annotations

import asyncio
import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lkmongo.doctor.check import Finding, ok, skip, warn
from lkmongo.doctor.http import PATIENCE, UnreachableError, reason
from lkmongo.errors import AuthenticationError

if TYPE_CHECKING:
    from lkmongo.settings import LiveKitCredentials, Settings

SHORTEST_SECRET = 32
"""Bytes that a key for HMAC-SHA256 should have at least. (RFC 7518, section 3.2.)"""


async def livekit(settings: Settings) -> Finding:
    """Whether LiveKit is there and takes the key, by one signed call.

    Raises:
        UnreachableError: nobody answers, or not as LiveKit does.
        AuthenticationError: the key and the secret were refused.
    """
    credentials = settings.livekit
    if credentials is None:
        return skip("LIVEKIT_URL is not set: the console works, calls and tokens need it")
    await call_livekit(credentials)
    said = f"{credentials.url} answers, and the key {credentials.api_key} is valid"
    if (length := len(credentials.api_secret.get_secret_value().encode())) < SHORTEST_SECRET:
        return warn(
            f"{said}; its secret has only {length} bytes and could be guessed",
            f"give the server a secret of at least {SHORTEST_SECRET} bytes: openssl rand -hex 32",
        )
    return ok(said)


async def call_livekit(credentials: LiveKitCredentials) -> None:
    """Make one signed call to LiveKit that changes nothing.

    Raises:
        UnreachableError: nobody answers, or not as LiveKit does.
        AuthenticationError: the key and the secret were refused.
    """
    await asyncio.to_thread(importlib.import_module, "livekit.api")
    from livekit import api

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a short secret: we tell that in our own words
        token = (
            api.AccessToken(credentials.api_key, credentials.api_secret.get_secret_value())
            .with_grants(api.VideoGrants(room_list=True))
            .to_jwt()
        )
    url = credentials.url
    with livekit_errors(url):
        # The client's own timeout is lost on the way to its requests.
        async with asyncio.timeout(PATIENCE), api.LiveKitAPI(url, token=token, failover=False) as client:
            # Of a name that no room has: the answer is short, however many rooms there are.
            await client.room.list_rooms(api.ListRoomsRequest(names=["lkmongo doctor"]))


@contextmanager
def livekit_errors(url: str) -> Iterator[None]:
    """Say in our own words what went wrong with a call to LiveKit at `url`.

    Raises:
        UnreachableError: nobody answers, or not as LiveKit does.
        AuthenticationError: the key and the secret were refused.
    """
    import aiohttp
    from google.protobuf.message import DecodeError
    from livekit import api

    try:
        yield
    except api.ServerError as error:
        if error.status in {401, 403}:
            raise AuthenticationError(
                f"LiveKit at {url} refused the API key",
                why=error.message or f"HTTP status {error.status}",
                hint="check that LIVEKIT_API_KEY and LIVEKIT_API_SECRET are of this LIVEKIT_URL, and this machine's clock",
            ) from error
        raise UnreachableError(
            f"what answers at {url} is not LiveKit, or is in trouble",
            why=error.message or f"HTTP status {error.status}",
            hint="check LIVEKIT_URL",
        ) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise UnreachableError(
            f"LiveKit cannot be reached at {url}", why=reason(error, PATIENCE), hint="check LIVEKIT_URL and the network"
        ) from error
    except DecodeError as error:  # the client takes any answer with status 200 for a protocol message
        raise UnreachableError(f"what answers at {url} is not LiveKit", hint="check LIVEKIT_URL") from error
