"""What callers may ask for themselves, over HTTP: a file, erasure with a receipt, who looked, and their consent."""

from __future__ import annotations

import json

import aiohttp
import pytest

from lkmongo.consent import QUESTION, WORDING
from lkmongo.errors import DatabaseUnavailableError
from lkmongo.model import SessionRecord, SessionStatus, now
from lkmongo.outbox import journal
from lkmongo.outbox.operations import Remember
from lkmongo.settings import Settings
from lkmongo.store.people.audit import Audit
from lkmongo.store.people.erase import receipts
from lkmongo.store.people.person import count, export
from lkmongo.store.sessions.documents import lease_owner
from lkmongo.tenants import TenantPolicy
from lkmongo.web import rights
from tests.overlaps import a_call
from tests.people import anywhere, furnish
from tests.waiting import until
from tests.web.test_caller import call, cookie_of, give, token
from tests.web_server import told, web_server

ASKS = TenantPolicy(consent="ask")


async def known(server, store, **more):
    browser = server.browser()
    scope = told(await token(browser, server)).scope
    await furnish(store, scope, calls=["s-1"], content="a heron", **more)
    return browser, scope


async def test_what_is_kept_is_a_file_to_download_the_same_as_staff_exports(store):
    async with web_server(store) as server:
        browser, scope = await known(server, store)
        await known(server, store)
        async with browser.get(f"{server.url}api/export") as answer:
            assert answer.status == 200
            assert answer.content_type == "application/json"
            assert answer.headers["Content-Disposition"].startswith("attachment")
            assert "no-store" in answer.headers["Cache-Control"]
            assert "Content-Length" not in answer.headers, "it is streamed"
            found = await answer.json()
        wanted = json.loads("".join([piece async for piece in export(store.db, scope)]))
        assert found | {"exported_at": None} == wanted | {"exported_at": None}
        assert len(found["calls"][0]["turns"]) == 3
        assert (await call(server.browser(), "GET", f"{server.url}api/export"))[0] == 404


async def test_a_file_that_breaks_off_is_not_taken_for_the_whole(store, monkeypatch):
    async def broken(_db, _scope):
        yield "{"
        raise DatabaseUnavailableError

    monkeypatch.setattr(rights, "export", broken)
    async with web_server(store) as server:
        browser, _ = await known(server, store)
        with pytest.raises(aiohttp.ClientPayloadError):
            async with browser.get(f"{server.url}api/export") as answer:
                await answer.read()


async def test_erasing_takes_two_steps_shows_a_receipt_and_ends_the_cookie(store):
    async with web_server(store) as server:
        browser, scope = await known(server, store, orders=["7"])
        before, path = cookie_of(browser), f"{server.url}api/erase"
        _, planned = await call(browser, "POST", path, json={})
        assert (planned["receipt"], planned["erased"]["turns"], planned["orders_kept"]) == (None, 3, 1)
        assert (await store.users.get(scope)).name, "nothing is erased yet"
        assert (await call(browser, "POST", path, json={"confirm": True}))[0] == 400
        assert (await call(server.browser(), "POST", path, json={"confirm": "erase"}))[0] == 404
        status, done = await call(browser, "POST", path, json={"confirm": "erase"})
        assert (status, done["erased"]["turns"], done["erased"]["sessions"], done["orders_kept"]) == (200, 3, 1, 1)
        (receipt,) = await receipts(store.db, scope.tenant)
        assert (str(receipt.erase_id), receipt.by) == (done["receipt"], rights.BY)
        left = await count(store.db, scope)
        assert {name: number for name, number in left.items() if number} == {"orders": 1}
        assert await anywhere(store, "heron") == []
        assert cookie_of(browser) is None
        give(browser, before)
        assert told(await token(browser, server)).scope != scope, "a copy of it stands for nobody"


async def test_a_call_of_theirs_stores_nothing_more_and_ends(store, tmp_path):
    async with web_server(store) as server:
        browser, scope = await known(server, store)
        async with a_call(store, scope, tmp_path) as going_on:
            going_on.recorder.start()
            await going_on.caller.remember("pet", "a heron")
            status, done = await call(browser, "POST", f"{server.url}api/erase", json={"confirm": "erase"})
            assert (status, done["receipt"] is not None) == (200, True)
            await until(lambda: going_on.recorder.erased)
            await going_on.caller.remember("pet", "a heron")
    assert await anywhere(store, "heron") == []


async def test_what_a_worker_of_this_machine_has_on_its_disk_goes_too(store, tmp_path):
    settings = Settings.load({"LKMONGO_HOME": str(tmp_path)})
    async with web_server(store, settings=settings) as server:
        browser, scope = await known(server, store)
        record = SessionRecord("s-9", scope, "room", SessionStatus.ACTIVE, now())
        left = journal.create_journal(settings, record, lease_owner())
        left.append([Remember(now(), "pet", "a heron").entry])
        left.close(delete=False)
        assert (await call(browser, "POST", f"{server.url}api/erase", json={"confirm": "erase"}))[0] == 200
    assert journal.files(left.path.parent) == []


async def test_a_form_of_another_site_cannot_erase(store):
    async with web_server(store) as server:
        browser, scope = await known(server, store)
        for path in ("erase", "consent"):
            forms = {"data": b'{"confirm": "erase"}', "headers": {"Content-Type": "text/plain"}}
            assert (await call(browser, "POST", f"{server.url}api/{path}", **forms))[0] == 415
        foreign = {"Origin": "https://other.example"}
        status, _ = await call(browser, "POST", f"{server.url}api/erase", json={"confirm": "erase"}, headers=foreign)
        assert status == 403
        assert await store.users.get(scope)


@pytest.mark.parametrize("shown", [True, False])
async def test_when_staff_looked_is_shown_where_the_tenant_wants_it(store, shown):
    async with web_server(store, policy=TenantPolicy(show_staff_access=shown)) as server:
        browser, scope = await known(server, store)
        _, other = await known(server, store)
        trail = Audit(store.db)
        for who in (scope, other):
            await trail.write(
                operator="sam", action="memory list", tenant_id="default", scope=who, reason="ticket 7", counts={"x": 1}
            )
        _, found = await call(browser, "GET", f"{server.url}api/rights")
        if not shown:
            assert found["access"] is None
            return
        (look,) = found["access"]
        assert look["action"] == "memory list"
        assert "sam" not in str(found), "neither by whom nor why"
        assert "ticket" not in str(found)
        assert (await call(server.browser(), "GET", f"{server.url}api/rights"))[1]["access"] == []


async def test_where_a_tenant_asks_a_browser_is_not_stored_before_its_caller_agrees(store):
    async with web_server(store, policy=ASKS) as server:
        browser = server.browser()
        _, found = await call(browser, "GET", f"{server.url}api/rights")
        assert (found["asks"], found["consent"], found["question"]) == (True, None, QUESTION)
        assert (await call(browser, "POST", f"{server.url}api/consent", json={"agree": True}))[0] == 404
        scope = told(await token(browser, server)).scope
        assert told(await token(browser, server)).scope == scope, "known by the cookie alone"
        _, noted = await call(browser, "POST", f"{server.url}api/consent", json={"agree": False})
        assert noted == {"consent": None}
        for name in await store.db.list_collection_names():
            assert await store.db[name].count_documents({}) == 0, name
        for wrong in ({}, {"agree": "yes"}, [True]):
            assert (await call(browser, "POST", f"{server.url}api/consent", json=wrong))[0] == 400
        _, noted = await call(browser, "POST", f"{server.url}api/consent", json={"agree": True})
        assert (noted["consent"]["state"], noted["consent"]["by"]) == ("agreed", "page")
        assert noted["consent"]["wording"] == WORDING
        assert (await count(store.db, scope))["visitors"] == 1
        _, found = await call(browser, "GET", f"{server.url}api/rights")
        assert found["consent"] == noted["consent"]
        _, noted = await call(browser, "POST", f"{server.url}api/consent", json={"agree": False})
        assert noted["consent"]["state"] == "withdrawn"
        assert (await store.users.consent(scope)).state == "withdrawn"
