"""The webhook as operators see it: shown by `sessions show`, sent by `sessions recover`, refused when set up wrong."""

from __future__ import annotations

import asyncio
import functools
from datetime import timedelta

import pytest

from lkmongo.model import SessionRecord, SessionStatus, UserScope, now
from lkmongo.outbox.journal import Journal, database_of, journal_folder
from tests.webhook_receiver import receiving

ROBIN = UserScope(tenant_id="default", user_id="u-100")
BEGAN = now() - timedelta(minutes=5)


@pytest.fixture
async def receiver():
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
def command(run, receiver):
    """Run `lkmongo` with the webhook set, while the receiver can answer."""
    return functools.partial(asyncio.to_thread, functools.partial(run, env=receiver.environment))


async def test_a_conversation_in_the_console_is_told_and_that_is_shown(command, receiver):
    result = await command("agent", "console", "--user", "u-100", input="remember that my car is red\n")
    assert result.code == 0
    (data,) = receiver.data
    assert (data["user_id"], data["status"], data["close_reason"]) == ("u-100", "complete", "hang-up")
    words = data["record"].split()
    shown = await command(*words[1:])
    assert shown.code == 0
    assert "\n  webhook         delivered 20" in shown.stdout
    assert ", 1 attempt\n" in shown.stdout
    told = (await command(*words[1:], "--json")).json
    assert told["turns"]
    assert told["webhook"]["event_id"] == receiver.ids[0]
    assert (told["webhook"]["state"], told["webhook"]["answer"]) == ("delivered", "HTTP 204")


async def test_one_that_is_pending_or_given_up_is_shown_with_the_last_answer(command, receiver, store):
    receiver.answers = [500]
    await command("agent", "console", "--user", "u-100", input="hello\n")
    session_id = receiver.data[0]["session_id"]
    shown = await command("sessions", "show", session_id)
    assert "\n  webhook         pending, 1 attempt, HTTP 500; next not before 20" in shown.stdout
    receiver.answers = [410]
    await store.db.sessions.update_one({}, {"$set": {"webhook.due_at": BEGAN}})
    recovered = await command("sessions", "recover")
    assert "is given up at attempt 2: HTTP 410\n" in recovered.stderr
    assert recovered.stderr.endswith("webhooks of sessions: 1 given up\nThere is nothing to recover\n")
    shown = await command("sessions", "show", session_id)
    assert "\n  webhook         given up 20" in shown.stdout
    assert ", 2 attempts, HTTP 410\n" in shown.stdout
    assert (await command("sessions", "show", session_id, "--json")).json["webhook"]["state"] == "given up"


async def test_a_session_that_nobody_was_told_of_shows_nothing(run, command):
    await asyncio.to_thread(run, "agent", "console", "--user", "u-100", input="hello\n")
    (session,) = (await command("sessions", "list", "--json")).json
    assert "webhook" not in (await command("sessions", "show", session["session_id"])).stdout
    assert (await command("sessions", "show", session["session_id"], "--json")).json["webhook"] is None


async def test_recovery_tells_of_a_killed_session_and_a_dry_run_does_not(command, receiver, shared_home, database_name):
    record = SessionRecord("call-1", ROBIN, "room", SessionStatus.ACTIVE, BEGAN)
    folder = journal_folder(shared_home)
    Journal.create(folder, record, owner="host/boot/1", database=database_of(None, database_name)).close(delete=False)
    await command("sessions", "recover", "--dry-run")
    assert receiver.events == []
    recovered = await command("sessions", "recover", "--json")
    assert [each["outcome"] for each in recovered.json] == ["interrupted"]
    assert recovered.stderr == "webhooks of sessions: 1 delivered\n"
    assert [(each["session_id"], each["status"]) for each in receiver.data] == [("call-1", "interrupted")]


@pytest.mark.parametrize("words", [("sessions", "recover"), ("agent", "console", "--user", "u-100")])
def test_an_address_without_a_secret_is_an_error_that_says_so(run, words):
    result = run(*words, env={"LKMONGO_WEBHOOK_URL": "https://example.com/a-token"})
    assert result.code == 2
    assert "LKMONGO_WEBHOOK_SECRET is not set" in result.stderr
    assert "a-token" not in result.stderr


def test_commands_that_tell_nobody_do_not_need_the_secret(run):
    assert run("sessions", "list", env={"LKMONGO_WEBHOOK_URL": "https://example.com/hook"}).code == 0


def test_the_doctor_names_the_secret_that_is_missing_and_masks_what_is_there(run):
    result = run("doctor", "--only", "settings", env={"LKMONGO_WEBHOOK_URL": "https://example.com/a-token"})
    assert result.code != 0
    assert "LKMONGO_WEBHOOK_SECRET is not set" in result.stdout + result.stderr
    assert "a-token" not in result.stdout + result.stderr
