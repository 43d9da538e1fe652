"""Every table in a terminal of 80 columns: an id can be copied from it, however long it is."""

from __future__ import annotations

import re

import pexpect
import pytest

from lkmongo.model import SessionRecord, SessionStatus, UserScope, now
from lkmongo.outbox.journal import Journal, database_of
from lkmongo.phone_numbers import PhoneNumber
from lkmongo.store.people.erase import erase
from tests.people import furnish

NUMBER = "+493055501767"
NARROW = {"COLUMNS": "80"}
CALL = "console-6e9f8d7c-1b2a-4c3d-8e9f-0a1b2c3d4e5f"
LONG_CALL = "RM_" + "c" * 125
SLOT = "s" * 64
SOURCE = f"handbook of 2026/{'d' * 90}.md"
PEOPLE = {
    "as a console names them": (UserScope(tenant_id="default", user_id="a-login@example.com"), CALL),
    "as long as they may be": (UserScope(tenant_id="t" * 128, user_id="u x " + "u" * 124), LONG_CALL),
}


@pytest.mark.parametrize("which", PEOPLE)
async def test_no_table_breaks_an_id(run, store, shared_home, database_name, tmp_path, which):
    person, call = PEOPLE[which]
    await furnish(store, person, slots=[SLOT], calls=[call], content="a copper lamp, and more than fits into a cell")
    passage = {"source": SOURCE, "chunk": 0, "title": "Lamps", "content": "Every lamp is made of copper."}
    await store.db.knowledge.insert_one({"tenant_id": person.tenant_id} | passage)
    somebody = UserScope(tenant_id=person.tenant_id, user_id="somebody")
    await furnish(store, somebody, slots=[], calls=[])
    await store.phones.link(person, PhoneNumber(NUMBER), by="call")
    receipt = await erase(store.db, somebody, by="Sam")
    left = SessionRecord(call, person, "room", SessionStatus.ACTIVE, now())
    Journal.create(shared_home / "spool", left, owner="gone/boot/1", database=database_of(None, database_name)).close(
        delete=False
    )
    (tmp_path / SOURCE).parent.mkdir()
    (tmp_path / SOURCE).write_text("# Lamps\n\nEvery lamp is made of copper.\n")
    of, user = ["--tenant", person.tenant_id], person.user_id
    tables = {
        ("users", "list", *of): [user, person.tenant_id],
        ("users", "list", "--all-tenants"): [user, person.tenant_id],
        ("phone", "list", *of): [user],
        ("phone", "lookup", NUMBER, *of): [user],
        ("users", "receipts", *of): [str(receipt.erase_id), receipt.hash],
        ("memory", "list", user, *of): [SLOT],
        ("memory", "search", user, "copper", *of): [SLOT],
        ("sessions", "list", *of): [call, user],
        ("sessions", "list", "--all-tenants"): [call, user, person.tenant_id],
        ("sessions", "search", "lamp", *of): [call, user],
        ("sessions", "show", call, *of): [call, user, person.tenant_id],
        ("sessions", "recover", "--dry-run"): [call, user, person.tenant_id],
        ("knowledge", "list", *of): [SOURCE],
        ("knowledge", "search", "copper", *of): [SOURCE],
        ("knowledge", "add", ".", "--dry-run", "--tenant", "another"): [SOURCE],
        ("db", "status"): ["memories", "of_user_newest"],
        ("db", "indexes"): ["memories", "of_user_newest"],
        ("db", "embed", "--dry-run"): ["memories"],
        ("db", "retention"): ["calls", "profiles"],
    }
    for command, ids in tables.items():
        shown = run(*command, "-o", "table", env=NARROW)
        assert shown.code == 0, shown.stderr
        words = re.split(r" {2,}|\n", shown.stdout)
        for each in ids:
            assert each in shown.stdout, (command, shown.stdout)
            assert " " in each or any(each in word.split() for word in words), (command, shown.stdout)


async def test_a_list_of_calls_stays_a_table_in_a_terminal_of_80_columns(store, at_terminal):
    person, call = PEOPLE["as a console names them"]
    await furnish(store, person, slots=[], calls=[call])
    child = at_terminal("sessions", "list", size=(24, 80), env={"COLUMNS": "", "TERM": "dumb"})
    child.expect(pexpect.EOF)
    heading, others, name, row = child.before.splitlines()
    assert (heading, others.split()[0], name) == ("session_id", "user_id", call)
    assert row.split()[:2] == [person.user_id, "complete"]
    assert max(map(len, (others, row))) <= 80
