"""Who a request is from, behind proxies: what a trusted one has seen, and nothing that anybody can write."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from lkmongo.errors import SettingsError
from lkmongo.settings import Settings
from lkmongo.web.limits import keys_of
from lkmongo.web.proxies import Proxies, parse_address
from tests.web_server import call, token, web_server

INNER = "10.0.0.0/8,fd00::/8"


def client(proxies: str | None, peer: str | None, **headers: str | list[str]) -> str:
    """The address that a request is counted as, by its peer and the headers xff and forwarded."""
    names = {"xff": "X-Forwarded-For", "forwarded": "Forwarded"}
    lines = CIMultiDict()
    for name, values in headers.items():
        for value in [values] if isinstance(values, str) else values:
            lines.add(names[name], value)
    request = make_mocked_request("GET", "/api/token", lines).clone(remote=peer or "")
    return str(Proxies(proxies).client(request))


@pytest.mark.parametrize(
    ("proxies", "peer", "headers", "expected"),
    [
        # nobody is trusted
        (None, "10.0.0.1", {"xff": "192.0.2.1"}, "10.0.0.1"),
        (None, "10.0.0.1", {"forwarded": "for=192.0.2.1"}, "10.0.0.1"),
        (INNER, "198.51.100.9", {"xff": "192.0.2.1"}, "198.51.100.9"),
        (INNER, None, {"xff": "192.0.2.1"}, "None"),
        # networks
        (INNER, "10.0.0.1", {}, "10.0.0.1"),
        (INNER, "10.0.0.1", {"xff": "192.0.2.1"}, "192.0.2.1"),
        (INNER, "::ffff:10.0.0.1", {"xff": "::ffff:192.0.2.1"}, "192.0.2.1"),
        (INNER, "fd00::1", {"xff": "2001:db8::1"}, "2001:db8::1"),
        (INNER, "10.0.0.1", {"xff": "1.2.3.4, 192.0.2.1, 10.9.9.9"}, "192.0.2.1"),
        (INNER, "10.0.0.1", {"xff": ["1.2.3.4", "192.0.2.1", "10.9.9.9"]}, "192.0.2.1"),
        (INNER, "10.0.0.1", {"xff": "10.1.1.1, 10.2.2.2"}, "10.1.1.1"),
        ("10.0.0.1", "10.0.0.2", {"xff": "192.0.2.1"}, "10.0.0.2"),
        # a number of them
        ("1", "10.0.0.1", {"xff": "1.2.3.4, 192.0.2.1"}, "192.0.2.1"),
        ("2", "10.0.0.1", {"xff": "1.2.3.4, 192.0.2.1, 198.51.100.1"}, "192.0.2.1"),
        ("2", "10.0.0.1", {"xff": "192.0.2.1"}, "192.0.2.1"),
        ("1", None, {"xff": "192.0.2.1"}, "192.0.2.1"),
        ("1", "10.0.0.1", {}, "10.0.0.1"),
        # forms of an address
        (INNER, "10.0.0.1", {"xff": "192.0.2.1:4711"}, "192.0.2.1"),
        (INNER, "10.0.0.1", {"xff": "[2001:db8::1]:4711"}, "2001:db8::1"),
        (INNER, "10.0.0.1", {"xff": " fe80::1%eth0 "}, "fe80::1"),
        (INNER, "10.0.0.1", {"forwarded": 'For="[2001:db8::1]:4711";proto=https'}, "2001:db8::1"),
        (INNER, "10.0.0.1", {"forwarded": "proto=https;by=10.0.0.1;for=192.0.2.1"}, "192.0.2.1"),
        (INNER, "10.0.0.1", {"forwarded": 'for="192.0.2.\\1:80" , for=10.5.5.5'}, "192.0.2.1"),
        (INNER, "10.0.0.1", {"forwarded": ["for=1.2.3.4", "for=192.0.2.1"]}, "192.0.2.1"),
        # what cannot be read is the proxy's own
        (INNER, "10.0.0.1", {"xff": "unknown"}, "10.0.0.1"),
        (INNER, "10.0.0.1", {"xff": "192.0.2.1, "}, "10.0.0.1"),
        (INNER, "10.0.0.1", {"xff": "192.0.2.1, junk, 10.7.7.7"}, "10.7.7.7"),
        (INNER, "10.0.0.1", {"xff": "192.0.2.300"}, "10.0.0.1"),
        (INNER, "10.0.0.1", {"forwarded": "for=_hidden"}, "10.0.0.1"),
        (INNER, "10.0.0.1", {"forwarded": 'for="192.0.2.1'}, "10.0.0.1"),
        (INNER, "10.0.0.1", {"forwarded": 'for="open, for=192.0.2.1'}, "10.0.0.1"),
        (INNER, "10.0.0.1", {"forwarded": "proto=https"}, "10.0.0.1"),
        (INNER, "10.0.0.1", {"forwarded": "for=192.0.2.1;"}, "10.0.0.1"),
        # a proxy sets one of the two, and passes on the other as it came
        (INNER, "10.0.0.1", {"xff": "192.0.2.1", "forwarded": "for=1.2.3.4"}, "10.0.0.1"),
        (INNER, "10.0.0.1", {"xff": "192.0.2.1", "forwarded": "for=192.0.2.1"}, "192.0.2.1"),
    ],
)
def test_who_a_request_is_from(proxies, peer, headers, expected):
    assert client(proxies, peer, **headers) == expected


@given(st.text(st.characters(codec="ascii", exclude_characters="\r\n\0"), max_size=60), st.booleans())
def test_nothing_that_a_client_writes_makes_it_another(written, is_forwarded):
    """A trusted proxy adds at the right whom it was asked by."""
    if is_forwarded:
        seen = client(INNER, "10.0.0.1", forwarded=f"{written}, for=192.0.2.1")
    else:
        seen = client(INNER, "10.0.0.1", xff=f"{written}, 192.0.2.1")
    assert seen == "192.0.2.1" or (is_forwarded and seen == "10.0.0.1")
    assert client("1", "10.0.0.1", xff=f"{written},192.0.2.1") == "192.0.2.1"
    assert client(INNER, "198.51.100.9", xff=written, forwarded=written) == "198.51.100.9"


@given(st.ip_addresses(), st.one_of(st.none(), st.integers(0, 65_535)))
def test_an_address_is_read_with_a_port_or_without(address, port):
    mapped = getattr(address, "ipv4_mapped", None)
    written = f"[{address}]" if address.version == 6 and port is not None else str(address)
    assert parse_address(written if port is None else f"{written}:{port}") == (mapped or address)


@given(st.text())
def test_any_text_is_an_address_or_none(text):
    keys_of(parse_address(text))


@pytest.mark.parametrize("value", ["0", "10", "-1", "nginx", "10.0.0.0/33", "10.0.0.1 10.0.0.2", "10.0.0.1,", "1,2"])
def test_what_is_no_proxy_is_refused(value):
    with pytest.raises(SettingsError, match="LKMONGO_WEB_PROXIES must be a number from 1 to 9, or networks such as"):
        Settings.load({"LKMONGO_WEB_PROXIES": value})


def test_networks_may_be_written_as_one_likes():
    read = Settings.load({"LKMONGO_WEB_PROXIES": " 10.1.2.3/8, FD00::/8,192.0.2.1 "})
    assert read.web_proxies == "10.0.0.0/8,fd00::/8,192.0.2.1/32"
    assert Settings.load({"LKMONGO_WEB_PROXIES": "2"}).web_proxies == "2"


@pytest.fixture
def few(monkeypatch):
    """Few requests are allowed, so that a minute is long enough to ask for more on a busy machine."""
    monkeypatch.setattr("lkmongo.web.guard.PER_ADDRESS", 20)
    monkeypatch.setattr("lkmongo.web.limits.NEW_VISITORS", 10)


@pytest.mark.usefixtures("few")
async def test_behind_a_proxy_a_stranger_s_junk_keeps_nobody_out(store):
    async with web_server(store, proxies="127.0.0.0/8") as server:
        stranger = server.browser()

        async def asks(headers, method="GET"):
            return (await call(stranger, method, f"{server.url}api/token", headers=headers))[0]

        junk = [await asks({"X-Forwarded-For": f"8.8.{number}.8, 203.0.113.9"}) for number in range(60)]
        assert junk[:20] == [405] * 20
        assert 429 in junk, "whatever stands before its own address"
        assert await asks({"X-Forwarded-For": "203.0.113.9"}, "POST") == 429
        await token(server.browser(), server, headers={"X-Forwarded-For": "198.51.100.7"})
        await token(server.browser(), server, headers={"Forwarded": "for=198.51.100.8"})


@pytest.mark.usefixtures("few")
async def test_who_is_known_has_a_limit_of_their_own_that_junk_does_not_use_up(store):
    async with web_server(store) as server:
        known, stranger = server.browser(), server.browser()
        await token(known, server)
        junk = [(await call(stranger, "GET", f"{server.url}api/token"))[0] for _ in range(60)]
        assert 429 in junk
        forged = {"Cookie": f"lkmongo={'A' * 43}.{'0' * 8}.{'0' * 64}"}
        assert (await call(stranger, "GET", f"{server.url}api/memories", headers=forged))[0] == 429
        assert (await call(known, "GET", f"{server.url}api/memories"))[0] == 200
        await token(known, server)


@pytest.mark.usefixtures("few")
async def test_one_network_gets_so_many_new_visitors_and_another_its_own(store):
    async with web_server(store, proxies="1") as server:

        async def arrives(address):
            headers = {"X-Forwarded-For": address}
            return (await call(server.browser(), "POST", f"{server.url}api/token", headers=headers))[0]

        statuses = [await arrives(f"2001:db8::{number:x}") for number in range(15)]
        assert statuses[:10] == [201] * 10
        assert 429 in statuses
        assert await arrives("2001:db8:0:1::1") == 201
        assert await arrives("192.0.2.1") == 201
