"""The webhook of a session's end: signed, told once, and told although a receiver, a database or a process fails."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from docs.examples.webhook_receiver import receiver as example_receiver
from docs.examples.webhook_receiver import verify
from lkmongo import backoff, deadlines
from lkmongo.errors import DatabaseUnavailableError, NotReadyError
from lkmongo.model import SessionRecord, SessionStatus, Turn, TurnKind, UserScope, now
from lkmongo.outbox import journal, webhook
from lkmongo.outbox.operations import AddTurn, Notify, Remember
from lkmongo.outbox.recovery import recover
from lkmongo.outbox.webhook import Endpoint, deliver, deliver_due, deliver_periodically
from lkmongo.settings import Settings
from lkmongo.store.open import Store
from lkmongo.store.people.erase import erase
from lkmongo.store.people.tombstones import Tombstones
from lkmongo.store.sessions.webhooks import Webhooks
from tests.overlaps import DATABASE, ROBIN, SID, away, die, kinds, recorder_of, say
from tests.waiting import until
from tests.webhook_receiver import SECRET, receiving

KIM = UserScope(tenant_id="acme inc", user_id="kim")
BEGAN = now() - timedelta(minutes=5)


@pytest.fixture
async def receiver():
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
def store(store):
    """A store whose sessions are announced."""
    return Store.of(store.db, announces=True)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """A webhook that failed is due again at once, three times."""
    monkeypatch.setattr(backoff, "WEBHOOK_SCHEDULE", (0, 0, 0))


async def hold(store, scope=ROBIN, *, folder=None, session_id=SID):
    """A session in which the caller says two things, until its record is complete."""
    recorder = recorder_of(store, scope, session_id, folder=folder)
    recorder.start()
    say(recorder, "my secret wish is a blue kettle", BEGAN.timestamp())
    say(recorder, "goodbye", BEGAN.timestamp() + 1)
    recorder._outbox.add(Remember(now(), "wish", "a blue kettle"))
    stored = await recorder.close("hang-up", dict)
    return recorder, stored


async def ended(store, scope=ROBIN, **more):
    recorder, stored = await hold(store, scope, **more)
    assert stored
    await recorder.lease.release()
    return recorder.record


async def delivery(store, scope=ROBIN, session_id=SID):
    return (await store.sessions.get(scope, session_id)).webhook


def left_by_a_killed_process(folder, *, at=BEGAN, turns=1):
    record = SessionRecord(SID, ROBIN, "room", SessionStatus.ACTIVE, at)
    file = journal.Journal.create(folder, record, owner="host/boot/1", database=DATABASE)
    said = [Turn(n, f"i-{n}", TurnKind.MESSAGE, at + timedelta(seconds=n), role="user") for n in range(turns)]
    file.append([AddTurn(turn, numbered=True).entry for turn in said])
    file.close(delete=False)
    return record


# ---------------------------------------------------------------- what is sent


def test_it_is_signed_as_the_specification_says():
    """With the values that the libraries of Standard Webhooks are tested with."""
    settings = Settings.load(
        {
            "LKMONGO_WEBHOOK_URL": "https://example.com/hook",
            "LKMONGO_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        }
    )
    headers = Endpoint.of(settings).headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_neither_the_secret_nor_the_address_is_shown():
    settings = Settings.load({"LKMONGO_WEBHOOK_URL": "https://example.com/a-token", "LKMONGO_WEBHOOK_SECRET": SECRET})
    shown = f"{settings!r} {Endpoint.of(settings)!r}"
    assert "a-token" not in shown
    assert SECRET not in shown
    assert "twenty-four" not in shown


async def test_an_end_is_told_once_with_who_when_how_and_counts_and_nothing_that_was_said(store, receiver):
    record = await ended(store, KIM, session_id="s 1")
    assert await deliver(store, receiver.endpoint, KIM, "s 1") == "delivered"
    assert await deliver(store, receiver.endpoint, KIM, "s 1") is None
    assert await deliver_due(store, receiver.endpoint) == []
    stored = await store.sessions.get(KIM, "s 1")
    assert receiver.events == [
        {
            "type": "session.ended",
            "timestamp": iso(stored.ended_at),
            "data": {
                "session_id": "s 1",
                "tenant_id": "acme inc",
                "user_id": "kim",
                "guest": False,
                "room_name": "room",
                "status": "complete",
                "close_reason": "hang-up",
                "started_at": iso(record.started_at),
                "ended_at": iso(stored.ended_at),
                "length_seconds": (stored.ended_at - record.started_at).total_seconds(),
                "turns": 2,
                "tool_errors": 0,
                "changes": 1,
                "record": "lkmongo sessions show 's 1' --user kim --tenant 'acme inc'",
            },
        }
    ]
    assert shlex.split(receiver.data[0]["record"])[-1] == "acme inc"
    assert "kettle" not in receiver.bodies[0]
    assert receiver.ids == [stored.webhook.event_id]
    assert (stored.webhook.state, stored.webhook.attempts, stored.webhook.answer) == ("delivered", 1, "HTTP 204")
    assert "lease" not in await store.db.sessions.find_one({})


def iso(moment):
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


async def test_a_guest_is_told_as_one(store, receiver):
    guest = UserScope.guest()
    await ended(store, guest)
    await deliver(store, receiver.endpoint, guest, SID)
    assert receiver.data[0]["guest"] is True


async def test_without_an_address_nothing_is_stored_or_told(store, receiver, tmp_path):
    silent = Store.of(store.db)
    recorder = recorder_of(silent, ROBIN, folder=tmp_path)
    recorder.start()
    with away((type(silent.sessions), "save")):
        await recorder.close("hang-up", dict)
    assert kinds(tmp_path) == ["end"]
    await recover(silent, tmp_path, DATABASE)
    left_by_a_killed_process(tmp_path)
    await recover(silent, tmp_path, DATABASE)
    assert await delivery(silent) is None
    assert await deliver_due(store, receiver.endpoint) == []


# ---------------------------------------------------------------- a receiver that fails


@pytest.mark.parametrize("status", [500, 400, 404, 302, 307])
async def test_what_is_refused_is_sent_again_with_the_same_id(store, receiver, status):
    await ended(store)
    receiver.answers = [status, status]
    assert await deliver_due(store, receiver.endpoint) == ["failed"]
    pending = await delivery(store)
    assert (pending.state, pending.attempts, pending.answer) == ("pending", 1, f"HTTP {status}")
    assert await deliver_due(store, receiver.endpoint) == ["failed"]
    assert await deliver_due(store, receiver.endpoint) == ["delivered"]
    assert len(receiver.ids) == 3, "no redirect was followed"
    assert set(receiver.ids) == {pending.event_id}
    assert (await delivery(store)).attempts == 3


async def test_a_receiver_that_is_away_makes_neither_the_record_nor_the_journal_wait(store, receiver, tmp_path):
    nobody = replace(receiver.endpoint, url="http://127.0.0.1:1/hook")
    recorder, stored = await hold(store, folder=tmp_path)
    assert await deliver(store, nobody, ROBIN, SID, recorder.lease.owner) == "failed"
    assert stored
    assert journal.files(tmp_path) == []
    assert "127.0.0.1:1" in (await delivery(store)).answer
    assert (await store.sessions.get(ROBIN, SID)).status is SessionStatus.COMPLETE
    await recorder.lease.release()
    assert await deliver_due(store, receiver.endpoint) == ["delivered"]


async def test_a_receiver_that_does_not_answer_is_not_waited_for_for_ever(store, receiver, monkeypatch):
    await ended(store)
    receiver.goes_on.clear()
    monkeypatch.setattr(deadlines, "WEBHOOK", 0.2)
    assert await deliver_due(store, receiver.endpoint) == ["failed"]
    assert (await delivery(store)).answer.startswith("no answer within")
    receiver.goes_on.set()
    monkeypatch.setattr(deadlines, "WEBHOOK", 60)
    assert await deliver_due(store, receiver.endpoint) == ["delivered"]


async def test_it_is_not_due_before_its_pause_is_over(store, receiver, monkeypatch):
    monkeypatch.setattr(backoff, "WEBHOOK_SCHEDULE", (3600, 7200))
    await ended(store)
    receiver.answers = [500, 500]
    assert await deliver_due(store, receiver.endpoint) == ["failed"]
    assert await deliver_due(store, receiver.endpoint) == []
    first = await delivery(store)
    assert timedelta(minutes=55) < first.due_at - now() < timedelta(minutes=65)
    await store.db.sessions.update_one({}, {"$set": {"webhook.due_at": now()}})
    await until(lambda: deliver_due(store, receiver.endpoint))
    assert timedelta(minutes=115) < (await delivery(store)).due_at - now() < timedelta(minutes=125)


async def test_a_receiver_that_wants_no_more_is_asked_once(store, receiver, caplog):
    await ended(store)
    receiver.answers = [410]
    assert await deliver_due(store, receiver.endpoint) == ["given up"]
    assert await deliver_due(store, receiver.endpoint) == []
    given_up = await delivery(store)
    assert (given_up.state, given_up.answer, given_up.due_at) == ("given up", "HTTP 410", None)
    assert f"the webhook of session {SID} is given up at attempt 1: HTTP 410" in caplog.text


async def test_after_the_schedule_it_is_given_up(store, receiver):
    await ended(store)
    receiver.answers = [500] * 10
    outcomes = [await deliver_due(store, receiver.endpoint) for _ in range(5)]
    assert outcomes == [["failed"], ["failed"], ["failed"], ["given up"], []]
    assert (await delivery(store)).state == "given up"


def test_the_schedule_ends_after_a_day(monkeypatch):
    monkeypatch.undo()
    assert timedelta(hours=23) < timedelta(seconds=sum(backoff.WEBHOOK_SCHEDULE)) < timedelta(hours=25)
    assert list(backoff.WEBHOOK_SCHEDULE) == sorted(backoff.WEBHOOK_SCHEDULE)


def test_the_schedule_and_the_event_are_documented(monkeypatch):
    monkeypatch.undo()
    page = Path(__file__).resolve().parents[2].joinpath("docs", "webhook.md").read_text(encoding="utf-8")
    units = [(3600, "h"), (60, "min"), (1, "s")]
    named = [
        next(f"{each // size} {unit}" for size, unit in units if each >= size) for each in backoff.WEBHOOK_SCHEDULE
    ]
    assert f"after {', '.join(named[:-1])} and {named[-1]}, by any process" in " ".join(page.split())
    example = json.loads(page.partition("```json\n")[2].partition("```")[0])
    told = json.loads(webhook.body_of(SessionRecord("s", ROBIN, "room", SessionStatus.COMPLETE, BEGAN)))
    assert (list(example), list(example["data"])) == (list(told), list(told["data"]))


@pytest.mark.parametrize("change", [{"secret": SECRET[:-4] + "AAAA"}, {"body": b"{}"}, {"sent": -301}, {"id": "msg_2"}])
def test_the_receiver_of_the_documents_refuses_what_is_forged_or_old(receiver, change):
    sent, body = int(time.time()) + change.get("sent", 0), b'{"type": "session.ended"}'
    headers = receiver.endpoint.headers("msg_1", sent, body)
    assert change.get("sent") or verify(SECRET, headers, body) == {"type": "session.ended"}
    headers |= {"webhook-id": change["id"]} if "id" in change else {}
    with pytest.raises(ValueError, match="too old" if "sent" in change else "not signed"):
        verify(change.get("secret", SECRET), headers, change.get("body", body))


async def test_the_receiver_of_the_documents_takes_each_event_once(receiver):
    ended = []
    async with TestServer(example_receiver(SECRET, set(), ended)) as server:
        endpoint = replace(receiver.endpoint, url=str(server.make_url("/lkmongo")))
        body = webhook.body_of(SessionRecord("s-1", ROBIN, "room", SessionStatus.COMPLETE, BEGAN))
        assert [await endpoint.post(each, body) for each in ("msg_1", "msg_1", "msg_2")] == [204] * 3
        assert await replace(endpoint, key=b"another").post("msg_3", body) == 401
    assert [each["session_id"] for each in ended] == ["s-1", "s-1"]


async def test_one_that_fails_holds_up_no_other(store, receiver):
    for number in range(3):
        await ended(store, session_id=f"s-{number}")
    receiver.answers = [500]
    assert sorted(await deliver_due(store, receiver.endpoint)) == ["delivered", "delivered", "failed"]
    assert await deliver_due(store, receiver.endpoint) == ["delivered"]
    assert sorted({each["session_id"] for each in receiver.data}) == ["s-0", "s-1", "s-2"]


async def test_two_processes_do_not_send_it_at_the_same_time(store, receiver):
    await ended(store)
    receiver.goes_on.clear()
    first = asyncio.create_task(deliver_due(store, receiver.endpoint))
    await until(lambda: receiver.events)
    assert await store.webhooks.due(9), "its pause is over, and yet"
    assert await deliver_due(store, receiver.endpoint) == []
    receiver.goes_on.set()
    assert await first == ["delivered"]
    assert len(receiver.events) == 1


# ---------------------------------------------------------------- a process or a database that fails


async def test_what_was_not_announced_stays_in_the_journal_and_is_told_after_recovery(store, receiver, tmp_path):
    with away((Webhooks, "announce")):
        recorder, stored = await hold(store, folder=tmp_path)
    assert not stored
    assert recorder.is_journaled
    await die(recorder)
    assert kinds(tmp_path)[-2:] == ["end", "notify"]
    assert await deliver_due(store, receiver.endpoint) == []
    (found,) = await recover(store, tmp_path, DATABASE)
    assert found.outcome == "complete"
    assert journal.files(tmp_path) == []
    assert await deliver_due(store, receiver.endpoint) == ["delivered"]
    assert [each["status"] for each in receiver.data] == ["complete"]


async def test_recovery_again_tells_nothing_again(store, receiver, tmp_path):
    with away((Webhooks, "announce")):
        recorder, _ = await hold(store, folder=tmp_path)
    await die(recorder)
    (path,) = journal.files(tmp_path)
    content = path.read_bytes()
    for _ in range(2):
        path.write_bytes(content)
        await recover(store, tmp_path, DATABASE)
        await deliver_due(store, receiver.endpoint)
    assert len(receiver.events) == 1


async def test_the_journal_may_be_recovered_where_no_address_is_set(store, receiver, tmp_path):
    with away((Webhooks, "announce")):
        recorder, _ = await hold(store, folder=tmp_path)
    await die(recorder)
    await recover(Store.of(store.db), tmp_path, DATABASE)
    assert await deliver_due(store, receiver.endpoint) == ["delivered"]


async def test_a_process_that_died_after_sending_is_followed_by_one_that_sends_the_same_id(store, receiver):
    await ended(store)
    receiver.goes_on.clear()
    dying = asyncio.create_task(deliver_due(store, receiver.endpoint))
    await until(lambda: receiver.events)
    dying.cancel()
    receiver.goes_on.set()
    assert (await delivery(store)).state == "pending"
    await store.db.sessions.update_one({}, {"$set": {"lease.until": BEGAN}})  # as soon as it has run out
    assert await deliver_due(store, receiver.endpoint) == ["delivered"]
    assert len(receiver.ids) == 2
    assert len(set(receiver.ids)) == 1


async def test_a_killed_session_is_told_as_interrupted(store, receiver, tmp_path):
    left_by_a_killed_process(tmp_path, turns=3)
    await recover(store, tmp_path, DATABASE)
    assert await deliver_due(store, receiver.endpoint) == ["delivered"]
    (data,) = receiver.data
    assert (data["status"], data["close_reason"], data["turns"], data["changes"]) == ("interrupted", "killed", 3, None)
    assert data["ended_at"] == iso(BEGAN + timedelta(seconds=2))


async def test_a_session_whose_lease_ran_out_is_told_once_even_if_its_journal_comes_later(store, receiver, tmp_path):
    record = left_by_a_killed_process(tmp_path, turns=3)
    await store.sessions.open(record, "host/boot/1")
    await store.db.sessions.update_one({}, {"$set": {"lease.until": BEGAN}})
    await recover(store, tmp_path / "elsewhere", DATABASE)
    assert await deliver_due(store, receiver.endpoint) == ["delivered"]
    await recover(store, tmp_path, DATABASE)
    assert await deliver_due(store, receiver.endpoint) == []
    assert [(each["status"], each["close_reason"]) for each in receiver.data] == [("interrupted", "lost")]


async def test_a_session_that_another_agent_may_continue_is_told_when_it_has_ended(store, receiver):
    record = replace(SessionRecord(SID, ROBIN, "room", SessionStatus.ACTIVE, BEGAN), agent="my-agent")
    await store.sessions.open(record, "dead")
    await store.sessions.interrupt(ROBIN, SID, "lost")
    waits = (await delivery(store)).due_at - now()
    assert timedelta(seconds=50) < waits < timedelta(seconds=70)
    assert await deliver_due(store, receiver.endpoint) == []
    assert await store.sessions.renew(ROBIN, SID, "alive") == "held"
    assert await delivery(store) is None
    await store.db.sessions.update_one({}, {"$set": {"webhook.due_at": BEGAN}})
    assert await deliver_due(store, receiver.endpoint) == [], "it goes on"
    await store.sessions.interrupt(ROBIN, SID, "lost")
    assert (await delivery(store)).due_at - now() > timedelta(seconds=50), "a second agent that died"
    assert await store.sessions.renew(ROBIN, SID, "alive") == "held"
    done = replace(record, status=SessionStatus.COMPLETE, ended_at=now(), close_reason="hang-up")
    await store.sessions.save(done, owner="alive")
    await store.webhooks.announce(ROBIN, SID, "msg_2")
    assert await deliver_due(store, receiver.endpoint) == ["delivered"]
    assert [each["status"] for each in receiver.data] == ["complete"]


async def test_a_session_that_nobody_waits_for_is_told_at_once(store, receiver):
    record = replace(SessionRecord(SID, ROBIN, "room", SessionStatus.ACTIVE, BEGAN), agent="my-agent")
    await store.sessions.open(record, "dead")
    await store.sessions.interrupt(ROBIN, SID, "lost", for_good=True)
    assert await deliver_due(store, receiver.endpoint) == ["delivered"]


async def test_a_session_that_counted_as_dead_and_was_completed_is_told_again_with_another_id(store, receiver):
    record = SessionRecord(SID, ROBIN, "room", SessionStatus.ACTIVE, BEGAN)
    await store.sessions.open(record, "slow")
    await store.sessions.interrupt(ROBIN, SID, "lost")
    await deliver_due(store, receiver.endpoint)
    done = replace(record, status=SessionStatus.COMPLETE, ended_at=now(), close_reason="hang-up")
    await store.sessions.save(done)
    assert await store.webhooks.announce(ROBIN, SID, "msg_2")
    await deliver_due(store, receiver.endpoint)
    assert not await store.webhooks.announce(ROBIN, SID, "msg_3")
    assert [each["status"] for each in receiver.data] == ["interrupted", "complete"]
    assert receiver.ids[1] == "msg_2" != receiver.ids[0]


async def test_what_is_due_is_delivered_while_a_process_runs_also_after_mongodb_was_away(store, receiver, monkeypatch):
    monkeypatch.setattr(webhook, "POLL_INTERVAL", 0.02)
    settings = Settings.load(receiver.environment)
    delivering = asyncio.create_task(deliver_periodically(settings, store))
    try:
        await ended(store, session_id="s-1")
        await until(lambda: len(receiver.events) == 1)
        tries = []

        async def fails(*_):
            tries.append(1)
            raise DatabaseUnavailableError

        with monkeypatch.context() as patch:
            patch.setattr(Webhooks, "due", fails)
            await ended(store, session_id="s-2")
            await until(lambda: len(tries) > 2)
        await until(lambda: len(receiver.events) == 2)
    finally:
        delivering.cancel()
    await deliver_periodically(Settings.load({}), store)  # returns


# ---------------------------------------------------------------- erased


async def test_nothing_is_told_of_a_person_who_was_erased(store, receiver, tmp_path):
    await ended(store, folder=tmp_path)
    left_by_a_killed_process(tmp_path, at=BEGAN)
    await erase(store.db, ROBIN, by="test")
    await recover(store, tmp_path, DATABASE)
    assert await deliver_due(store, receiver.endpoint) == []
    assert await store.db.sessions.count_documents({}) == 0
    assert receiver.events == []


async def test_nothing_is_told_of_a_person_who_was_erased_during_the_session(store, receiver):
    recorder = recorder_of(store, ROBIN)
    recorder.start()
    async with recorder.lease.writing():
        await Tombstones(store.db).begin(ROBIN, {"sessions": 1})
    with pytest.raises(Exception, match="erased"):
        await recorder.lease.check()
    await recorder.close("hang-up", dict)
    assert await deliver_due(store, receiver.endpoint) == []
    assert receiver.events == []


async def test_nothing_is_told_while_an_erasure_is_under_way(store, receiver):
    await ended(store)
    await Tombstones(store.db).begin(ROBIN, {"sessions": 1})
    assert await deliver_due(store, receiver.endpoint) == []
    assert receiver.events == []
    assert "lease" not in await store.db.sessions.find_one({})


async def test_an_erasure_waits_for_a_request_that_is_under_way(store, receiver):
    await ended(store)
    receiver.goes_on.clear()
    sending = asyncio.create_task(deliver_due(store, receiver.endpoint))
    await until(lambda: receiver.events)
    with pytest.raises(NotReadyError, match="still in a session"):
        await erase(store.db, ROBIN, by="test", patience=0.0)
    erasing = asyncio.create_task(erase(store.db, ROBIN, by="test", patience=300))
    receiver.goes_on.set()
    await sending
    await erasing
    assert await store.db.sessions.count_documents({}) == 0
    assert await deliver_due(store, receiver.endpoint) == []
    assert len(receiver.events) == 1


# ---------------------------------------------------------------- the operation


@pytest.mark.parametrize("answer", [204, 500])
async def test_what_is_announced_again_after_it_was_sent_stays_as_it_is(store, receiver, answer):
    await ended(store)
    receiver.answers = [answer]
    await deliver_due(store, receiver.endpoint)
    before = await delivery(store)
    assert not await store.webhooks.announce(ROBIN, SID, "another")
    assert await delivery(store) == before


async def test_a_session_that_goes_on_cannot_be_announced(store):
    await store.sessions.open(SessionRecord(SID, ROBIN, "room", SessionStatus.ACTIVE, BEGAN), "me")
    assert not await store.webhooks.announce(ROBIN, SID, "msg")
    assert await delivery(store) is None


def test_an_entry_without_an_id_is_unreadable():
    for entry in ({"op": "notify"}, {"op": "notify", "event_id": 7}):
        with pytest.raises(journal.UNREADABLE):
            Notify.of(entry)


def test_the_body_is_what_was_signed_and_is_json():
    record = SessionRecord("ä", ROBIN, None, SessionStatus.COMPLETE, None, ended_at=datetime(2026, 11, 3, tzinfo=UTC))
    told = json.loads(webhook.body_of(record))
    assert told["timestamp"] == "2026-11-03T00:00:00.000Z"
    assert (told["data"]["session_id"], told["data"]["started_at"], told["data"]["length_seconds"]) == ("ä", None, None)
