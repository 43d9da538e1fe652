"""Which secrets could be guessed."""

from __future__ import annotations

import base64
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit import api
from pydantic import SecretStr

from lkmongo.api_secret import HINT, weakness
from lkmongo.livekit_api import livekit_client
from lkmongo.redact import redact
from lkmongo.settings import LiveKitCredentials


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("secret", "6 bytes"),
        ("devkey", "6 bytes"),
        ("a" * 31, "31 bytes"),
        ("a" * 64, "repeats itself"),
        ("secretsecretsecretsecretsecretsecret", "repeats itself"),
        ("0123456789abcde0123456789abcde01234", "repeats itself"),
        ("<your-livekit-api-secret-goes-here>", "of an example"),
        ("CHANGE_ME_to_something_that_is_long_enough", "of an example"),
        ("YOUR_API_SECRET_OF_AT_LEAST_32_CHARACTERS", "of an example"),
    ],
)
def test_short_well_known_and_repeated_ones_are_told(secret, why):
    assert why in weakness(secret)


@given(st.integers(min_value=32, max_value=80))
def test_random_ones_are_good(length):
    data = secrets.token_bytes(length)
    for secret in (data.hex(), data.hex()[:32], base64.b64encode(data).decode(), secrets.token_urlsafe(length)):
        assert weakness(secret) is None


@pytest.mark.parametrize("secret", ["secret", "devkey", "password"])
def test_the_hint_does_not_show_by_what_is_redacted_in_it_which_one_it_was(secret):
    assert redact(HINT, [secret]) == HINT


async def test_no_request_to_livekit_warns_of_a_short_secret_whichever_ends_first(recwarn):
    """A warning is an error in these tests, and would be raw text in the log of a server."""
    credentials = LiveKitCredentials("ws://127.0.0.1:9", "devkey", SecretStr("secret"))
    first, second = livekit_client(credentials), livekit_client(credentials)
    await first.__aenter__()
    client = await second.__aenter__()
    await first.__aexit__(None, None, None)
    with pytest.raises(OSError):
        await client.room.list_rooms(api.ListRoomsRequest())
    await second.__aexit__(None, None, None)
    assert [str(each.message) for each in recwarn] == []
