"""Who must not get in does not: each attack is replayed against the running server, and gets its status."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import re
import secrets
import time
from collections import Counter

import jwt
import pytest

from lkmongo.model import SessionRecord, SessionStatus, UserScope, now
from lkmongo.web import caller, guard
from lkmongo.web.handle import CookieKeys, Handle
from lkmongo.web.limits import NEW_VISITORS, PER_ADDRESS, PER_CALLER, PER_VISITOR
from tests.web_server import AGENT, OLD_KEY, SECRET, call, claims, token, told, web_server

VICTIM = UserScope(tenant_id="default", user_id="u-100")
FORGED = [
    "u-100",
    "user_1",
    "",
    "null",
    "../../etc/passwd",
    "a" * 4_000,
    '{"$gt": ""}',
    f"{secrets.token_urlsafe(32)}.{'0' * 8}.{'0' * 64}",
    CookieKeys(["x" * 32]).write(Handle.new()),
    CookieKeys([OLD_KEY]).write(Handle("A" * 43, 0)),  # rightly signed, and made in 1970
    CookieKeys([OLD_KEY]).write(Handle.new())[:-1] + "g",
]


@pytest.fixture
async def server(store):
    await store.users.set_field(VICTIM, "name", "Jordan")
    await store.memories.remember(VICTIM, "city", "Lisbon")
    async with web_server(store) as running:
        yield running


@pytest.mark.parametrize("name", ["lkmongo", "__Host-lkmongo", "lk_mongo_user_cookie"])
@pytest.mark.parametrize("value", FORGED)
async def test_a_forged_or_old_cookie_is_a_new_guest(server, name, value):
    browser = server.browser()
    header = {"Cookie": f"{name}={value}"}
    _, shown = await call(browser, "GET", f"{server.url}api/memories", headers=header)
    assert shown == {"logged_in": False, "known": False, "lines": [], "suggestions": []} | {"count": 0, "more": None}
    async with browser.post(f"{server.url}api/token", headers=header) as answer:
        assert answer.status == 201
        assert "lkmongo" in answer.cookies
        found = told(await answer.json())
    assert found.scope.user_id.startswith("web-")
    assert not found.guest


async def test_the_name_of_another_scheme_is_not_read(server):
    """A neighbour under one domain could set the cookie without the prefix, by https too."""
    mine = Handle.new()
    value = CookieKeys([OLD_KEY]).write(mine)
    https = {"X-Forwarded-Proto": "https"}
    for headers, known in (
        ({"Cookie": f"lkmongo={value}"}, True),
        ({"Cookie": f"__Host-lkmongo={value}"} | https, True),
        ({"Cookie": f"lkmongo={value}"} | https, False),
        ({"Cookie": f"__Host-lkmongo={value}"}, False),
    ):
        answer = await token(server.browser(), server, headers=headers)
        assert (told(answer).scope == mine.guest("default")) is known


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"participant_identity": "u-100"}, "participant_identity"),
        ({"participantIdentity": "u-100"}, "participant_identity"),
        ({"room_name": "room-of-somebody-else"}, "room_name"),
        ({"participant_metadata": '{"user_id":"u-100"}'}, "participant_metadata"),
        ({"participant_attributes": {"lkmongo.caller": "x"}}, "participant_attributes"),
        ({"room_config": {"agents": [{"agent_name": "another"}]}}, "room_config.agents[0].agent_name"),
        ({"room_config": {"agents": [{"agentName": "another"}]}}, "room_config.agents[0].agent_name"),
        (
            {"room_config": {"agents": [{"agent_name": AGENT, "metadata": '{"user_id":"u-100"}'}]}},
            "room_config.agents[0].metadata",
        ),
        ({"room_config": {"agents": [{"agent_name": AGENT, "deployment": "x"}]}}, "room_config.agents[0].deployment"),
        ({"room_config": {"agents": [{"agent_name": AGENT}] * 2}}, "room_config.agents[1]"),
        ({"roomConfig": {"metadata": "x"}}, "room_config.metadata"),
        ({"room_config": {"egress": {"room": {"room_name": "x"}}}}, "room_config.egress"),
    ],
)
async def test_what_a_client_may_not_set_is_403_and_named(server, asked, field):
    status, body = await call(server.browser(), "POST", f"{server.url}api/token", json=asked)
    assert (status, body["error"]) == (403, "forbidden_field")
    assert body["message"].startswith(field)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b'"abc"',
        b"42",
        b"{",
        b"\xff\xfe",
        b'{"user_id": "u-100"}',
        b'{"user_id": {"$gt": ""}}',
        b'{"room_config": []} x',
        b'{"room_config": "x"}',
        b'{"room_config": {"agents": "x"}}',
        b'{"room_config": {"agents": ["x"]}}',
        b'{"participant_name": {"$gt": ""}}',
        b'{"participant_name": "\\ud800"}',
        b'{"participant_name": "a\\u0000b"}',
        b'{"participant_name": "' + b"x" * 300 + b'"}',
        b"[" * 8_000,
    ],
)
async def test_what_is_no_request_is_400(server, body):
    headers = {"Content-Type": "application/json"}
    status, answer = await call(server.browser(), "POST", f"{server.url}api/token", data=body, headers=headers)
    assert status == 400
    assert set(answer) == {"error", "message"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "file://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_page_of_a_foreign_origin_is_403_and_may_read_no_more_than_why(server, headers):
    for method, path in (
        ("POST", "token"),
        ("OPTIONS", "token"),
        ("GET", "memories"),
        ("DELETE", "memories"),
        ("DELETE", "memories/memory/city"),
        ("PUT", "memories/memory/city"),
        ("OPTIONS", "memories/memory/city"),
        ("GET", "memories/memory/city/why"),
        ("GET", "sessions"),
        ("POST", "logout"),
    ):
        origin = headers.get("Origin")
        async with server.browser().request(method, f"{server.url}api/{path}", headers=headers) as answer:
            is_preflight = method == "OPTIONS" and origin
            assert answer.status == (204 if is_preflight else 403), (method, path)
            assert answer.headers.get("Access-Control-Allow-Origin") == origin
            assert "Access-Control-Allow-Credentials" not in answer.headers
            assert "Set-Cookie" not in answer.headers
            body = await answer.read()
            assert not body if is_preflight else json.loads(body).keys() == {"error", "message"}


async def test_only_pages_of_the_web_are_of_the_same_origin(server):
    host = server.url.split("/")[2]
    for scheme, status in (("http", 201), ("https", 201), ("chrome-extension", 403), ("file", 403)):
        headers = {"Origin": f"{scheme}://{host}"}
        assert (await call(server.browser(), "POST", f"{server.url}api/token", headers=headers))[0] == status


async def test_another_name_for_this_address_is_421(server):
    """DNS rebinding: a page elsewhere gives its own name our address, and is then of the same origin."""
    for host in ("evil.example", f"evil.example:{server.url.rsplit(':', 1)[1].strip('/')}", "127.0.0.1.evil.example"):
        headers = {"Host": host, "Origin": f"http://{host}"}
        for method, path in (("POST", "api/token"), ("GET", "api/memories"), ("GET", "")):
            status, _ = await call(server.browser(), method, f"{server.url}{path}", headers=headers)
            assert status == 421


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_a_form_of_another_site_is_415(server, kind):
    for method, path in (
        ("POST", "token"),
        ("POST", "logout"),
        ("POST", "suggestions/0123456789ab/accept"),
        ("PUT", "memories/memory/city"),
    ):
        status, _ = await call(
            server.browser(), method, f"{server.url}api/{path}", data=b'{"a": "="}', headers={"Content-Type": kind}
        )
        assert status == 415


async def test_a_megabyte_of_json_is_413(server):
    megabyte = json.dumps({"participant_name": "x" * 2**20}).encode()
    headers = {"Content-Type": "application/json"}
    status, _ = await call(
        server.browser(), "POST", f"{server.url}api/token", data=io.BytesIO(megabyte), headers=headers
    )
    assert status == 413

    async def pieces():
        for start in range(0, len(megabyte), 8_192):
            yield megabyte[start : start + 8_192]

    status, _ = await call(server.browser(), "POST", f"{server.url}api/token", data=pieces(), headers=headers)
    assert status == 413
    assert (await call(server.browser(), "POST", f"{server.url}api/token"))[0] == 201


async def test_a_thousand_requests_a_minute_are_429(server, monkeypatch):
    monkeypatch.setattr(caller, "_LOOK_UP", 60)  # on a busy machine some visitors would be new guests
    monkeypatch.setattr(guard, "_MEMORY_SECONDS", 60)
    at_once = asyncio.Semaphore(50)  # a thousand connections would be refused for being so many

    async def statuses(browser, number, method="POST", path="token"):
        async def one():
            async with at_once, browser.request(method, f"{server.url}api/{path}") as answer:
                assert answer.status != 429 or int(answer.headers["Retry-After"]) >= 1
                return answer.status

        return Counter(await asyncio.gather(*(one() for _ in range(number))))

    def allowed(per_minute):
        return per_minute * (1 + (time.monotonic() - began) / 60)

    began = time.monotonic()
    known = server.browser()
    await token(known, server)
    of_one = await statuses(known, 60)
    assert PER_CALLER - 1 <= of_one[201] <= allowed(PER_CALLER)
    assert of_one[429] == 60 - of_one[201]

    class NoCookies:
        @staticmethod
        def request(method, url):
            return server.browser().request(method, url)

    strangers = await statuses(NoCookies, 200)
    assert NEW_VISITORS - 1 <= strangers[201] <= allowed(NEW_VISITORS)
    assert strangers[429] == 200 - strangers[201]
    junk = await statuses(NoCookies, 1_000, "GET")  # refused in any case, so that a slow machine is fast enough, too
    assert junk[405] <= allowed(PER_ADDRESS)
    assert junk[429] == 1_000 - junk[405] > 0
    assert await statuses(known, 10, "GET", "memories") == {200: 10}, "who is known has limits of their own"
    own = await statuses(known, 1_000, "GET")
    assert own[405] <= allowed(PER_VISITOR)
    both = await asyncio.gather(statuses(known, 300, "GET"), statuses(known, 20, "GET", "memories"))
    assert both[1][429] > 0, "what is of use is refused, too"


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "api/token", 405, "POST"),
        ("PUT", "api/token", 405, "POST"),
        ("POST", "api/memories", 405, "DELETE,GET"),
        ("GET", "api/suggestions/1/accept", 405, "POST"),
        ("POST", "api/suggestions/1/change", 404, None),
        ("TRACE", "api/token", 405, "POST"),
        ("GET", "api/users", 404, None),
        ("GET", "../pyproject.toml", 404, None),
        ("GET", "static/../../settings.py", 404, None),
        ("DELETE", "api/memories/users/u-100", 404, None),
        ("DELETE", "api/memories/memory/city", 404, None),
        ("PUT", "api/memories", 405, "DELETE,GET"),
        ("PUT", "api/memories/users/u-100", 404, None),
        ("POST", "api/memories/memory/city", 405, "DELETE,PUT"),
        ("PUT", "api/memories/memory/city/why", 405, "GET"),
        ("GET", "api/memories/memory/city/why", 404, None),
        ("GET", "api/memories/users/u-100/why", 404, None),
        ("POST", "api/sessions", 405, "GET"),
        ("GET", "api/sessions/s-1", 404, None),
    ],
)
async def test_what_there_is_not_is_404_or_405(server, method, path, status, allowed):
    async with server.browser().request(method, f"{server.url}{path}") as answer:
        assert answer.status == status
        assert answer.headers.get("Allow") == allowed


@pytest.mark.parametrize("cookie", FORGED)
async def test_nobody_edits_or_asks_about_what_is_another_s(store, server, cookie):
    browser, header = server.browser(), {"Cookie": f"lkmongo={cookie}"}
    path = f"{server.url}api/memories"
    for name in ("city", "City", "..%2Fcity", "%24where", "u-100"):
        content = {"json": {"content": "Rome", "kind": "memory"}, "headers": header}
        assert (await call(browser, "PUT", f"{path}/memory/{name}", **content))[0] == 400
        content = {"json": {"content": "Rome"}, "headers": header}
        assert (await call(browser, "PUT", f"{path}/memory/{name}", **content))[0] == 404
        assert (await call(browser, "GET", f"{path}/memory/{name}/why", headers=header))[0] == 404
    assert (await call(browser, "PUT", f"{path}/profile/name", **content))[0] == 404
    assert await call(browser, "GET", f"{server.url}api/sessions", headers=header) == (
        200,
        {"sessions": [], "more": None},
    )
    assert (await store.memories.recall(VICTIM, "city")).content == "Lisbon"
    assert await store.db.memories.count_documents({}) == 1


async def test_a_query_in_place_of_a_text_finds_nothing_of_others(store, server):
    browser = server.browser()
    await token(browser, server)
    for query in ("after[$gt]=", "after=2020-01-01T00:00:00Z/-1", "after=2999-01-01T00:00:00Z/0", "user_id=u-100"):
        for path in ("memories", "sessions"):
            status, found = await call(browser, "GET", f"{server.url}api/{path}?{query}")
            assert status == 200
            assert found.get("lines", found.get("sessions")) == []


async def test_the_user_id_is_nowhere_in_what_a_browser_gets(store):
    async def everybody_is(_):
        return "robin@example.com"

    robin = UserScope(tenant_id="acme-shop", user_id="robin@example.com")
    await store.users.set_field(robin, "name", "Robin")
    began = now()
    await store.sessions.save(SessionRecord("s-1", robin, robin.user_id, SessionStatus.COMPLETE, began, began))
    async with web_server(store, hook=everybody_is, tenant="acme-shop") as server:
        browser = server.browser()
        async with browser.post(f"{server.url}api/token") as answer:
            body, headers = await answer.text(), str(answer.raw_headers)
        assert told(json.loads(body)).scope == robin
        said = jwt.decode(json.loads(body)["participant_token"], options={"verify_signature": False})
        sealed = json.loads(said["roomConfig"]["agents"][0]["metadata"])["caller"]
        everything = body + headers + json.dumps(said) + str(base64.urlsafe_b64decode(sealed))
        _, memories = await call(browser, "GET", f"{server.url}api/memories")
        everything += json.dumps(memories)
        edited = await call(browser, "PUT", f"{server.url}api/memories/memory/city", json={"content": "Lisbon"})
        why = await call(browser, "GET", f"{server.url}api/memories/memory/city/why")
        sessions = await call(browser, "GET", f"{server.url}api/sessions")
        assert [status for status, _ in (edited, why, sessions)] == [200, 200, 200]
        everything += json.dumps([edited, why, sessions])
    assert "Robin" in everything
    assert "robin@example.com" not in everything
    assert "acme-shop" not in everything


async def test_a_guest_s_id_is_nowhere_either_and_the_database_holds_no_cookie(store, server):
    browser = server.browser()
    await token(browser, server)
    answer = await token(browser, server)
    (cookie,) = browser.cookie_jar
    user_id = told(answer).scope.user_id
    assert user_id not in json.dumps(answer) + json.dumps(claims(answer)) + cookie.value
    assert not re.search(r"[0-9a-f]{32}", user_id.removeprefix("web-")[:31])
    stored = str([document async for document in store.db.visitors.find()])
    assert user_id in stored
    for part in cookie.value.split("."):
        assert part not in stored


async def test_no_log_holds_a_token_a_cookie_or_a_secret(server, caplog):
    caplog.set_level(logging.DEBUG)
    browser = server.browser()
    answers = [await token(browser, server) for _ in range(2)]
    (cookie,) = browser.cookie_jar
    await call(browser, "POST", f"{server.url}api/token?access_token=secret-in-a-query", json={"room_name": "x"})
    await call(browser, "DELETE", f"{server.url}api/memories/memory/something")
    own = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith(("lkmongo", "aiohttp")))
    assert "POST /api/token 201" in own
    for secret in (*(a["participant_token"] for a in answers), cookie.value, SECRET, OLD_KEY, "secret-in-a-query"):
        assert secret not in own
    for answer in answers:
        assert told(answer).scope.user_id not in own
