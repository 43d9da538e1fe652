"""Secrets leave no message."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkmongo.redact import RedactingFormatter, mask, redact
from lkmongo.worker.runner import JsonFormatter, TextFormatter

word = st.text(st.characters(categories=["L", "N"], include_characters="-_.~%!*"), min_size=8, max_size=30)


@given(user=word, password=word, before=st.text(max_size=20), after=st.text(max_size=20))
def test_credentials_in_an_address_do_not_show(user, password, before, after):
    text = f"{before} mongodb+srv://{user}:{password}@cluster0.example.net/db {after}"
    shown = redact(text)
    assert f"{user}:{password}" not in shown
    assert "cluster0.example.net" in shown


@given(secret=word, before=st.text(max_size=20), after=st.text(max_size=20))
def test_a_known_secret_does_not_show(secret, before, after):
    if secret in before or secret in after:
        return
    assert secret not in redact(f"{before}{secret}{after}", [secret]).replace("***", "\0")


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abcdefgh12345678",
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl refused",
    ],
)
def test_tokens_do_not_show(text):
    shown = redact(text)
    assert "***" in shown
    assert "abcdefgh12345678" not in shown
    assert "c2lnbmF0dXJl" not in shown


def test_ordinary_text_stays():
    assert redact("order 1001 of a@b.example is on its way", ["abc"]) == "order 1001 of a@b.example is on its way"


def test_a_mask_tells_long_keys_apart_and_hides_short_ones():
    assert mask("pa-1234567890abcdef") == "pa-1***ef"
    assert mask("short") == "***"


@pytest.mark.parametrize("formatter", [RedactingFormatter, TextFormatter, JsonFormatter])
def test_what_is_logged_holds_no_secret_neither_does_its_traceback(formatter):
    try:
        raise ValueError("no key such as sk-canary")
    except ValueError:
        record = logging.LogRecord(
            "lkmongo", logging.WARNING, __file__, 1, "mongodb://ada:%s@db.example", ("hunter2",), sys.exc_info()
        )
    record.error = "Bearer canary-1234"
    text = formatter(secrets=["sk-canary"]).format(record)
    assert "mongodb://***@db.example" in text
    assert "ValueError: no key such as ***" in text
    assert "canary" not in text.replace("***", "")
    if formatter is JsonFormatter:
        assert json.loads(text)["level"] == "warning"
