"""Pages that get no cookie: the visitor token that they keep instead, and the script that does it for them."""

from __future__ import annotations

import json
import shutil
import subprocess
import time

import pytest

from lkmongo.model import now
from lkmongo.store.people.admission import Admission, NotAdmittedError
from lkmongo.store.people.erase import erase
from lkmongo.tenants import TenantPolicy
from lkmongo.web.caller import HEADER
from lkmongo.web.handle import CookieKeys, Handle
from lkmongo.web.page import FOLDER, FOR_OTHER_PAGES
from tests.people import furnish
from tests.web.test_attacks import FORGED
from tests.web.test_caller import AS_ROBIN, ROBIN, by_header, cookie_of, give
from tests.web_server import NEW_KEY, OLD_KEY, call, token, told, web_server

SHOP = "https://shop.example.com"
BOTH = f"https://talk.example.com,{SHOP}"


async def ask(server, kept: str | None = "new", *, browser=None, **headers: str):
    """A token for a page of the shop that keeps this; each time in a browser without cookies."""
    given = {"Origin": SHOP} | ({} if kept is None else {HEADER: kept}) | headers
    return await token(browser or server.browser(), server, headers=given)


async def test_who_comes_with_a_visitor_token_is_the_same_visitor(store):
    async with web_server(store, origins=BOTH) as server:
        first = await ask(server)
        kept = first["visitor_token"]
        again = await ask(server, kept)
        assert "visitor_token" not in again, "it keeps that already"
        assert told(again).scope == told(first).scope
        assert told(await ask(server)).scope != told(first).scope
        native = await token(server.browser(), server, headers={HEADER: kept})
        assert told(native).scope == told(first).scope, "a program that is no page may, too"


async def test_every_request_of_the_interface_takes_it(store):
    async with web_server(store, origins=BOTH) as server:
        first = await ask(server)
        headers = {"Origin": SHOP, HEADER: first["visitor_token"]}
        scope = told(first).scope
        await furnish(store, scope)
        stranger = {"Origin": SHOP, HEADER: "new"}
        for method, path, options in (
            ("GET", "memories", {}),
            ("PUT", "memories/memory/color", {"json": {"content": "teal"}}),
            ("GET", "memories/memory/color/why", {}),
            ("GET", "sessions", {}),
            ("GET", "rights", {}),
            ("GET", "export", {}),
            ("DELETE", "memories/memory/color", {}),
            ("DELETE", "memories", {}),
            ("POST", "erase", {"json": {}}),
        ):
            async with server.browser().request(
                method, f"{server.url}api/{path}", headers=headers, **options
            ) as answer:
                assert answer.status in {200, 204}, (method, path, await answer.text())
                assert answer.headers["Access-Control-Allow-Origin"] == SHOP
                assert HEADER in answer.headers["Vary"]
                assert "Set-Cookie" not in answer.headers
        _, shown = await call(server.browser(), "GET", f"{server.url}api/memories", headers=headers)
        assert shown["known"]
        _, shown = await call(server.browser(), "GET", f"{server.url}api/memories", headers=stranger)
        assert not shown["known"]


async def test_the_preflight_lets_the_header_through(store):
    async with (
        web_server(store, origins=BOTH) as server,
        server.browser().options(f"{server.url}api/token", headers={"Origin": SHOP}) as answer,
    ):
        allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
        assert {HEADER.lower(), "authorization", "content-type", "x-sandbox-id"} == set(allowed)
        assert answer.headers["Access-Control-Allow-Origin"] == SHOP


async def test_who_has_not_asked_gets_a_cookie_and_no_token_and_who_has_gets_no_cookie(store):
    async with web_server(store, origins=BOTH) as server:
        browser = server.browser()
        assert set(await ask(server, None, browser=browser)) == {"server_url", "participant_token"}
        assert set(await ask(server, None, browser=browser)) == {"server_url", "participant_token"}
        assert cookie_of(browser)
        other = server.browser()
        await ask(server, browser=other)
        assert cookie_of(other) is None


@pytest.mark.parametrize("value", ["new", "", *FORGED])
async def test_no_script_gets_a_token_for_the_cookie_that_it_cannot_read(store, value):
    """Whatever it sends in the header: the cookie counts only where there is none."""
    async with web_server(store) as server:
        browser = server.browser()
        mine = told(await token(browser, server)).scope
        cookie = cookie_of(browser)
        stolen = await token(browser, server, headers={HEADER: value})
        assert told(stolen).scope != mine
        assert stolen["visitor_token"].split(".")[0] != cookie.split(".")[0]
        assert cookie_of(browser) == cookie
        assert told(await token(browser, server)).scope == mine


async def test_of_a_cookie_and_a_token_the_token_counts(store):
    async with web_server(store) as server:
        browser = server.browser()
        by_cookie = told(await token(browser, server)).scope
        first = await token(server.browser(), server, headers={HEADER: "new"})
        kept = {HEADER: first["visitor_token"]}
        assert told(await token(browser, server, headers=kept)).scope == told(first).scope != by_cookie
        assert (await call(browser, "POST", f"{server.url}api/logout", headers=kept))[0] == 204
        assert told(await token(browser, server)).scope == by_cookie, "its logout is none of the cookie"
        assert told(await token(browser, server, headers=kept)).scope not in {told(first).scope, by_cookie}


async def test_it_is_renewed_and_keys_are_rotated_without_losing_anybody(store):
    async with web_server(store, keys=(NEW_KEY, OLD_KEY), origins=BOTH) as server:
        for days, key, renewed in ((1, NEW_KEY, False), (30, NEW_KEY, True), (1, OLD_KEY, True), (400, NEW_KEY, None)):
            handle = Handle(Handle.new().secret, int(time.time()) - days * 86_400)
            answer = await ask(server, CookieKeys([key]).write(handle))
            assert (told(answer).scope == handle.guest("default")) is (renewed is not None)
            assert ("visitor_token" in answer) is (renewed is not False)
            if renewed:
                assert answer["visitor_token"].startswith(handle.secret)
                assert CookieKeys([NEW_KEY]).read(answer["visitor_token"]) == (handle.renewed(), False)


async def test_logout_ends_it_with_its_copies_and_the_tokens_made_for_it(store):
    async with web_server(store, origins=BOTH) as server:
        first = await ask(server)
        kept = first["visitor_token"]
        headers = {"Origin": SHOP, HEADER: kept}
        assert (await call(server.browser(), "POST", f"{server.url}api/logout", headers=headers))[0] == 204
        with pytest.raises(NotAdmittedError):
            await Admission(store.db, told(first).ticket, now()).confirm()
        again = await ask(server, kept)
        assert told(again).scope != told(first).scope
        assert told(await ask(server, again["visitor_token"])).scope == told(again).scope


async def test_who_was_erased_is_somebody_new(store):
    async with web_server(store, origins=BOTH) as server:
        first = await ask(server)
        guest, kept = told(first).scope, first["visitor_token"]
        await furnish(store, guest)
        headers = {"Origin": SHOP, HEADER: kept}
        body = {"json": {"confirm": "erase"}, "headers": headers}
        assert (await call(server.browser(), "POST", f"{server.url}api/erase", **body))[0] == 200
        assert told(await ask(server, kept)).scope != guest
        other = await ask(server)
        await furnish(store, told(other).scope)
        await erase(store.db, told(other).scope, by="Sam")
        assert told(await ask(server, other["visitor_token"])).scope != told(other).scope


async def test_who_logs_in_takes_it_along_and_it_ends(store):
    async with web_server(store, hook=by_header, origins=BOTH) as server:
        first = await ask(server)
        guest, kept = told(first).scope, first["visitor_token"]
        await store.memories.remember(guest, "city", "Lisbon")
        for _ in range(2):
            answer = await ask(server, kept, **AS_ROBIN)
            assert told(answer).scope == ROBIN
            assert "visitor_token" not in answer
        assert [slot.content for slot in await store.memories.slots(ROBIN)] == ["Lisbon"]
        assert told(await ask(server, kept)).scope not in {guest, ROBIN}


# ------------------------------------------------------------------ what is stored of a token that nobody uses


@pytest.mark.parametrize("how", ["a cookie", "a visitor token", "neither"])
@pytest.mark.parametrize("asks", [False, True])
async def test_of_a_token_that_nobody_uses_nothing_is_stored(store, how, asks):
    async with web_server(store, origins=BOTH, policy=TenantPolicy(consent="ask" if asks else "assumed")) as server:
        browser = server.browser() if how == "a cookie" else None
        kept = "new" if how == "a visitor token" else None
        before = {name: await store.db[name].count_documents({}) for name in await store.db.list_collection_names()}
        first = await ask(server, kept, browser=browser)
        for _ in range(5):
            await ask(server, kept)
        after = {name: await store.db[name].count_documents({}) for name in await store.db.list_collection_names()}
        assert after == before
        second = await ask(server, first.get("visitor_token"), browser=browser)
        assert (told(second).scope == told(first).scope) is (how != "neither")
        known = await store.db.visitors.count_documents({})
        assert known == (0 if asks or how == "neither" else 1), "who comes back is one visitor"
        assert await store.db.users.count_documents({}) == 0


async def test_logout_ends_the_tokens_of_a_visitor_of_whom_nothing_is_stored(store):
    async with web_server(store) as server:
        browser = server.browser()
        first = await token(browser, server)
        copy = cookie_of(browser)
        assert await store.db.visitors.count_documents({}) == 0
        assert (await call(browser, "POST", f"{server.url}api/logout"))[0] == 204
        with pytest.raises(NotAdmittedError):
            await Admission(store.db, told(first).ticket, now()).confirm()
        thief = server.browser()
        give(thief, copy)
        assert told(await token(thief, server)).scope != told(first).scope


async def test_the_cookie_of_a_guest_who_logged_in_before_they_were_stored_ends_too(store):
    async with web_server(store, hook=by_header) as server:
        browser = server.browser()
        guest = told(await token(browser, server)).scope
        copy = cookie_of(browser)
        await token(browser, server, headers=AS_ROBIN)
        assert await store.db.visitors.count_documents(guest.filter) == 0
        thief = server.browser()
        give(thief, copy)
        assert told(await token(thief, server)).scope != guest


# ------------------------------------------------------------------ the script for pages

NODE = shutil.which("node")
BENCH = """
const kept = new Map(), sent = [];
const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true });
if (STORES) globalThis.localStorage = storage;
else Object.defineProperty(globalThis, "localStorage", { get() { throw new Error("denied"); } });
globalThis.fetch = async (url, { method, headers, body }) => {
  const came = headers.get("X-Lkmongo-Visitor");
  sent.push([method ?? "GET", url.pathname.split("/").at(-1), came, body]);
  await new Promise((done) => setTimeout(done, 20));
  if (url.pathname.endsWith("logout")) return { ok: true, status: 204 };
  const answer = { server_url: "ws://x", participant_token: "t" };
  if (came === "new") answer.visitor_token = `visitor-${sent.length}`;
  return STATUS === 201 ? { ok: true, json: async () => answer }
    : { ok: false, status: STATUS, json: async () => ({ message: "add it to LKMONGO_WEB_ORIGINS" }) };
};
const { ask, logout, token } = await import(FILE);
const told = [];
await (async () => { STEPS })().catch((error) => told.push(error.message));
console.log(JSON.stringify({ sent, told, kept: [...kept] }));
"""


@pytest.fixture
def ran(tmp_path):
    """What the script sends and keeps while a page does these steps."""

    def ran(steps: str, *, stores: bool = True, status: int = 201) -> dict:
        file = tmp_path / "visitor.mjs"
        file.write_text((FOLDER / FOR_OTHER_PAGES).read_text(encoding="utf-8"), encoding="utf-8")
        bench = f"const STORES = {json.dumps(stores)}, STATUS = {status}, FILE = {json.dumps(file.as_uri())};"
        (tmp_path / "run.mjs").write_text(bench + BENCH.replace("STEPS", steps), encoding="utf-8")
        done = subprocess.run([NODE, tmp_path / "run.mjs"], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ran


with_node = pytest.mark.skipif(NODE is None, reason="node is not on PATH")


@with_node
@pytest.mark.parametrize("stores", [True, False])
def test_two_requests_at_once_are_one_visitor(ran, stores):
    found = ran("await Promise.all([token(), token(), token()]);", stores=stores)
    assert [came for _, _, came, _ in found["sent"]] == ["new", "visitor-1", "visitor-1"]
    assert found["kept"] == ([["lkmongo-visitor", "visitor-1"]] if stores else [])


@with_node
def test_each_request_says_who_it_is_and_after_a_logout_who_comes_is_new(ran):
    found = ran('await token(); await ask("api/memories"); await logout(); await token();')
    assert [(method, path, came) for method, path, came, _ in found["sent"]] == [
        ("POST", "token", "new"),
        ("GET", "memories", "visitor-1"),
        ("POST", "logout", "visitor-1"),
        ("POST", "token", "new"),
    ]


@with_node
def test_what_livekit_s_client_asks_for_is_sent_as_its_own_endpoint_source_does(ran, tmp_path):
    found = ran('await token({ participantName: "Robin", agentName: "a" }); await token({});')
    bodies = [json.loads(body) for *_, body in found["sent"]]
    assert bodies == [{"participantName": "Robin", "roomConfig": {"agents": [{"agentName": "a"}]}}, {}]


@with_node
def test_a_refusal_reaches_the_developer_and_does_not_hold_up_the_next(ran):
    found = ran("await token().catch((error) => told.push(error.message)); await token();", status=403)
    assert found["told"] == ["no token: 403, add it to LKMONGO_WEB_ORIGINS"] * 2


async def test_pages_of_every_origin_may_load_it_and_no_other_file(store):
    async with web_server(store, origins=BOTH) as server:
        for path, allowed in ((FOR_OTHER_PAGES, "*"), ("talk.js", None), ("", None)):
            async with server.browser().get(f"{server.url}{path}", headers={"Origin": "https://x.test"}) as answer:
                assert answer.status == 200
                assert answer.headers.get("Access-Control-Allow-Origin") == allowed
    text = (FOLDER / FOR_OTHER_PAGES).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
