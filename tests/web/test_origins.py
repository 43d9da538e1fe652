"""Pages of other origins: who may, what the others are told and what not, and which are told that they forget."""

from __future__ import annotations

import logging
from ipaddress import ip_address
from types import SimpleNamespace

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st

from lkmongo.web import origins
from lkmongo.web.caller import HEADER
from lkmongo.web.guard import guard
from lkmongo.web.origins import STRANGERS, Origins
from lkmongo.web.proxies import Proxies
from tests.web_server import call, token, told, web_server

SHOP, TALK = "https://shop.example.com", "https://talk.example.com"
EVIL = "https://evil.example"
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-sandbox-id"}
BOTH = f"{TALK},{SHOP}"


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if each.name == origins.__name__]


async def test_a_page_that_is_not_listed_reads_what_to_do_and_the_log_names_it_once(store, caplog):
    async with web_server(store, origins=BOTH) as server:
        browser = server.browser()
        for _ in range(2):
            async with browser.options(f"{server.url}api/token", headers={"Origin": EVIL} | ASKS) as answer:
                assert answer.status == 204
                assert answer.headers["Access-Control-Allow-Origin"] == EVIL
                assert answer.headers["Access-Control-Allow-Headers"] == "*, authorization", "so that the request comes"
                refused = answer.headers["X-Lkmongo-Refused"]
            async with browser.post(f"{server.url}api/token", json={}, headers={"Origin": EVIL}) as answer:
                assert answer.status == 403
                assert answer.headers["Access-Control-Allow-Origin"] == EVIL
                assert "Origin" in answer.headers["Vary"]
                body = await answer.json()
        why = f"pages of {EVIL} may not use this server: add it to LKMONGO_WEB_ORIGINS, and start lkmongo web again"
        assert body == {"error": "foreign_origin", "message": why}
        assert refused == why
        assert logged(caplog) == [f"refused: {why}"]
        assert browser.cookie_jar.filter_cookies(server.url) == {}


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ("null", "serve them by https"),
        ("chrome-extension://abcdef", "only origins of http and https can be listed"),
        ("HTTPS://Shop.Example.com:8443", "pages of https://shop.example.com:8443 may not"),
    ],
)
async def test_each_kind_of_page_is_told_what_it_can_do(store, origin, told):
    async with web_server(store, origins=BOTH) as server:
        status, body = await call(server.browser(), "POST", f"{server.url}api/token", headers={"Origin": origin})
    assert status == 403
    assert told in body["message"]


@pytest.mark.parametrize("origin", ["", "https://a b", "https://a/b", 'https://"><script>', f"https://{'a' * 300}"])
async def test_what_no_browser_writes_is_neither_sent_back_nor_logged(store, caplog, origin):
    async with (
        web_server(store) as server,
        server.browser().post(f"{server.url}api/token", headers={"Origin": origin}) as answer,
    ):
        assert answer.status == 403
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
        assert (await answer.json())["message"] == "pages of other origins may not use this server"
    assert logged(caplog) == []


def test_the_log_names_no_more_than_a_hundred(caplog):
    judge = Origins(None, loopback=True)
    for number in range(200):
        judge.refusal(make_mocked_request("POST", "/api/token", {"Origin": f"https://{number}.example"}))
    assert len(logged(caplog)) == 100


HOSTS = ["127.0.0.1:8080", "localhost", "talk.example.com", "evil.example", ""]
ORIGINS = st.one_of(
    st.sampled_from([EVIL, "null", "http://127.0.0.1:1", "https://shop.example.com.evil.example", "file://", "", "*"]),
    st.sampled_from([f"http://{SHOP[8:]}", f"{SHOP}:8443", f"{SHOP}/", f"{SHOP} {EVIL}", f"{EVIL},{SHOP}"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(str.strip),
)
NAMES = (
    "Sec-Fetch-Site Sec-Fetch-Mode X-Forwarded-Proto X-Forwarded-Host X-Forwarded-For Referer Cookie Authorization "
    f"Access-Control-Request-Method Content-Type X-HTTP-Method-Override {HEADER}"
).split()
OTHERS = st.dictionaries(
    st.sampled_from(NAMES),
    st.sampled_from(["same-origin", "none", "cors", "https", SHOP, "127.0.0.1", "new", "lkmongo=x", "POST", "a/b"]),
)


@pytest.mark.parametrize("listed", [None, BOTH])
@settings(max_examples=300)
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"]),
    st.sampled_from(["/api/token", "/api/memories", "/api/erase", "/api/", "/api/../api/token", "/%61pi/logout"]),
    st.sampled_from(HOSTS),
    ORIGINS,
    OTHERS,
)
async def test_no_request_of_a_page_that_is_not_listed_reaches_a_handler(listed, method, path, host, origin, others):
    reached = []

    async def handler(request: web.Request) -> web.Response:
        reached.append(request)
        return web.json_response({"secret": "of a visitor"})

    passed = guard(Origins(listed, loopback=True), "policy", Proxies(None), lambda _: "somebody", set())
    transport = SimpleNamespace(get_extra_info=lambda *_: (str(ip_address("127.0.0.1")), 1))
    request = make_mocked_request(
        method, path, others | {"Host": host, "Origin": origin}, transport=transport, sslcontext=None
    )
    is_own = host and origin.lower() in {f"http://{host}", f"https://{host}"}
    answer = await passed(request, handler)
    if is_own or (listed and origin.lower() in listed.split(",")):
        return
    assert reached == []
    assert answer.status in {403, 421} or (method == "OPTIONS" and answer.status == 204)
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Set-Cookie" not in answer.headers
    assert "secret" not in (answer.text or "")


@pytest.mark.parametrize("how", ["the browser's Host", "a Host of its own"])
async def test_through_a_proxy_on_the_page_s_own_origin_who_comes_back_is_known(store, how):
    """As nginx and Caddy do it, and as the rewrites of Next.js do, behind which the page's origin is another one."""
    page = "http://localhost:3000"
    passes = how == "the browser's Host"
    async with web_server(store, origins=None if passes else page) as server:
        headers = {"Origin": page, "Sec-Fetch-Site": "same-origin"} | ({"Host": "localhost:3000"} if passes else {})
        browser = server.browser()
        found = {told(await token(browser, server, headers=headers)).scope for _ in range(2)}
    assert len(found) == 1


async def test_another_name_for_this_address_learns_nothing_by_its_preflight(store):
    async with web_server(store, origins=BOTH) as server:
        for origin in (EVIL, "http://evil.example"):
            headers = {"Host": "evil.example", "Origin": origin} | ASKS
            async with server.browser().options(f"{server.url}api/token", headers=headers) as answer:
                assert answer.status == 421
                assert not [name for name in answer.headers if name.startswith("Access-Control")]


# ------------------------------------------------------------------ pages that forget who comes


async def strangers(server, origin: str | None, number: int, **headers: str) -> None:
    for _ in range(number):
        await token(server.browser(), server, headers=({"Origin": origin} if origin else {}) | headers)


async def test_of_a_page_that_never_says_who_its_visitor_is_the_log_tells_once(store, caplog):
    caplog.set_level(logging.INFO)
    async with web_server(store, origins=BOTH) as server:
        await strangers(server, SHOP, STRANGERS - 1)
        assert logged(caplog) == []
        await strangers(server, SHOP, STRANGERS)
    (line,) = logged(caplog)
    assert line.startswith(f"pages of {SHOP} have asked for {STRANGERS} tokens and sent neither a cookie nor {HEADER}")


@pytest.mark.parametrize("how", ["a cookie", "the header", "own page", "no page"])
async def test_of_one_that_does_it_tells_nothing(store, caplog, how):
    async with web_server(store, origins=f"{BOTH},http://127.0.0.1:1") as server:
        if how == "a cookie":
            browser = server.browser()
            for _ in range(2):
                await token(browser, server, headers={"Origin": SHOP})
        origin = {"own page": server.origin, "no page": None}.get(how, SHOP)
        await strangers(server, origin, STRANGERS + 1, **({HEADER: "new"} if how == "the header" else {}))
    assert logged(caplog) == []
