"""Erasing a person reaches this machine's disk, and says what it does not reach."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta

import pytest

from lkmongo.errors import NotFoundError
from lkmongo.model import SessionRecord, SessionStatus, UserScope, now
from lkmongo.outbox.erasing import Elsewhere
from lkmongo.outbox.journal import JournalError, create_journal, journal_folder, quarantine, read
from lkmongo.outbox.operations import MoveGuest, Remember
from lkmongo.outbox.recovery import recover
from lkmongo.settings import Settings
from lkmongo.store.people.erase import erase, erase_known, receipts
from lkmongo.store.sessions.documents import lease_owner
from tests.people import furnish

ROBIN = UserScope(tenant_id="default", user_id="robin")
KIM = UserScope(tenant_id="default", user_id="kim")
GUEST = UserScope(tenant_id="default", user_id="guest-7")
WORDS = "the lighthouse at midnight"


@pytest.fixture
def settings(store, mongodb_uri, tmp_path):
    return Settings.load({"LKMONGO_HOME": str(tmp_path), "MONGODB_URI": mongodb_uri, "MONGODB_DB": store.db.name})


def journal_of(settings, scope, *, at=None, content=WORDS, more=(), alive=False, session="s-9"):
    """A session that could not store something; of one that is alive the journal stays locked."""
    record = SessionRecord(session, scope, "room", SessionStatus.ACTIVE, at or now() - timedelta(minutes=1))
    written = create_journal(settings, record, lease_owner())
    written.append([Remember(now(), "place", content).entry, *(each.entry for each in more)])
    if not alive:
        written.close(delete=False)
    return written


def on_disk(settings, *texts):
    """The files of the spool in which one of the texts stands."""
    paths = [path for path in journal_folder(settings.data_home).iterdir() if path.is_file()]
    return [path for path in paths if any(text.encode() in path.read_bytes() for text in texts)]


async def test_the_files_of_this_machine_are_swept_and_nobody_elses(store, settings, tmp_path):
    await furnish(store, ROBIN)
    journal_of(settings, ROBIN)
    quarantine(journal_of(settings, ROBIN, session="s-8").path)
    journal_of(settings, KIM, content="a kite")
    journal_of(settings.override(mongodb_db="another"), ROBIN, content="elsewhere")
    receipt = await erase(store.db, ROBIN, by="Sam", elsewhere=Elsewhere(settings, store.db, ROBIN))
    assert on_disk(settings, WORDS) == []
    assert len(on_disk(settings, "a kite")) == 1
    assert len(on_disk(settings, "elsewhere")) == 1, "it is for another database"
    assert receipt.journals == 2
    (stored,) = await receipts(store.db, ROBIN.tenant, scope=ROBIN)
    assert stored.journals == 2


async def test_somebody_of_whom_only_the_disk_knows_is_erased(store, settings):
    journal_of(settings, ROBIN)
    elsewhere = Elsewhere(settings, store.db, ROBIN)
    planned = await erase_known(store.db, ROBIN, by="Sam", dry_run=True, elsewhere=elsewhere)
    assert (planned.is_needed, planned.journals) == (True, 1)
    assert len(on_disk(settings, WORDS)) == 1
    done = await erase_known(store.db, ROBIN, by="Sam", elsewhere=elsewhere)
    assert (done.erased, done.receipt.journals) == (True, 1)
    assert on_disk(settings, WORDS, "robin") == []
    with pytest.raises(NotFoundError):
        await erase_known(store.db, KIM, by="Sam", elsewhere=Elsewhere(settings, store.db, KIM))


async def test_a_session_that_goes_on_and_cannot_reach_mongodb_leaves_nothing(store, settings):
    await furnish(store, ROBIN)
    alive = journal_of(settings, ROBIN, alive=True)
    await erase(store.db, ROBIN, by="Sam", elsewhere=Elsewhere(settings, store.db, ROBIN))
    alive.append([Remember(now(), "place", WORDS).entry])  # it has not noticed
    assert on_disk(settings, WORDS, "robin") == []
    alive.close(delete=False)
    assert on_disk(settings, WORDS, "robin") == []


async def test_what_a_new_customer_of_that_id_says_stays(store, settings):
    await furnish(store, ROBIN)
    await erase(store.db, ROBIN, by="Sam")
    kept = journal_of(settings, ROBIN, at=now() + timedelta(seconds=1), alive=True)
    assert await Elsewhere(settings, store.db, ROBIN).sweep() == 0
    assert on_disk(settings, WORDS) == [kept.path]
    kept.close(delete=True)


async def test_a_guest_who_logged_in_is_not_named_in_the_others_file(store, settings):
    await furnish(store, GUEST)
    left = journal_of(settings, KIM, content="a kite", more=[MoveGuest(GUEST.tenant_id, GUEST.user_id)])
    receipt = await erase(store.db, GUEST, by="Sam", elsewhere=Elsewhere(settings, store.db, GUEST))
    assert receipt.journals == 1
    assert on_disk(settings, "guest-7") == []
    assert [entry["op"] for entry in read(left.path).entries] == ["remember"]
    await recover(store, journal_folder(settings.data_home), read(left.path).database)
    assert [slot.content for slot in await store.memories.slots(KIM)] == ["a kite"]


async def test_a_file_that_cannot_be_read_stops_it_and_is_named(store, settings):
    await furnish(store, ROBIN)
    path = journal_of(settings, ROBIN).path
    path.write_bytes(b'{"a": 1}\n')
    assert await Elsewhere(settings, store.db, ROBIN).count() == 0, "it is about somebody else, or nobody"
    path.write_bytes(b'{"user_id": "robin"}\n')
    with pytest.raises(JournalError, match="is not the journal of a session"):
        await erase_known(store.db, ROBIN, by="Sam", elsewhere=Elsewhere(settings, store.db, ROBIN))


async def test_other_machines_with_calls_and_the_operation_log_are_told(store, settings):
    await furnish(store, ROBIN)
    somebody = SessionRecord("s-7", KIM, "room", SessionStatus.ACTIVE, now())
    await store.sessions.open(somebody, "worker-2/boot-1/17/ab")
    await store.sessions.open(replace(somebody, session_id="s-6"), "worker-2/boot-1/18/cd")
    receipt = await erase(store.db, ROBIN, by="Sam", elsewhere=Elsewhere(settings, store.db, ROBIN))
    assert list(receipt.hosts) == ["worker-2"]
    assert receipt.oplog_since <= now()
    (stored,) = await receipts(store.db, ROBIN.tenant, scope=ROBIN)
    assert (list(stored.hosts), stored.oplog_since) == (["worker-2"], receipt.oplog_since)


async def test_without_a_spool_there_is_nothing_to_sweep(store, settings):
    shutil.rmtree(journal_folder(settings.data_home), ignore_errors=True)
    assert await Elsewhere(settings, store.db, ROBIN).count() == 0
