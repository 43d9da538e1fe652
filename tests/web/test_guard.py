"""The parts of the web server that need no server: handles, origins."""

from __future__ import annotations

import sys

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st

from docs import generate
from lkmongo.errors import SettingsError
from lkmongo.setting_checks import is_loopback
from lkmongo.settings import Settings
from lkmongo.web.caller import load_login
from lkmongo.web.guard import content_security_policy
from lkmongo.web.handle import CookieKeys, Handle, load_keys

KEYS = CookieKeys(["n" * 32, "o" * 32])


@settings(max_examples=50)
@given(st.data())
def test_a_cookie_that_is_changed_anywhere_is_none(data):
    value = KEYS.write(Handle.new())
    place = data.draw(st.integers(0, len(value) - 1))
    other = data.draw(st.characters().filter(lambda char: char != value[place]))
    assert KEYS.read(value[:place] + other + value[place + 1 :]) is None
    assert KEYS.read(value) is not None


@given(st.text())
def test_any_text_can_be_read_and_is_none(text):
    assert KEYS.read(text) is None


def test_one_handle_has_hashes_that_tell_nothing_of_each_other():
    handle = Handle.new()
    hashes = {handle.key("a"), handle.key("b"), handle.guest("a").user_id[4:], handle.guest("b").user_id[4:]}
    assert len({each[:32] for each in hashes}) == 4
    assert handle.guest("a") == Handle(handle.secret, 0).guest("a")
    assert handle.secret not in "".join(hashes)


def test_keys_are_made_once_and_kept(home):
    settings = Settings.load({"LKMONGO_HOME": str(home)})
    value = load_keys(settings).write(Handle.new())
    assert load_keys(settings).read(value) is not None
    assert [file.name for file in home.iterdir()] == ["web-keys"]
    (home / "web-keys").write_text("\u00e9", encoding="utf-8")
    with pytest.raises(SettingsError):
        load_keys(settings)


def test_web_keys_are_secrets_each():
    known = Settings.load({"LKMONGO_WEB_KEYS": f"{'n' * 32} , {'o' * 40}"}).secrets
    assert {"n" * 32, "o" * 40} <= set(known)


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False)]
    + [(host, False) for host in ("::", "192.0.2.1", "localhost.example.com", "127.0.0.1.example.com", "")],
)
def test_which_hosts_are_this_machine_alone(host, own):
    assert is_loopback(host) is own


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("ws://127.0.0.1:7880", "ws://127.0.0.1:7880 http://127.0.0.1:7880"),
        ("wss://rtc.example.com", "wss://rtc.example.com https://rtc.example.com"),
        (
            "wss://shop.livekit.cloud",
            "wss://shop.livekit.cloud https://shop.livekit.cloud wss://*.livekit.cloud https://*.livekit.cloud",
        ),
    ],
)
def test_the_page_may_talk_to_the_livekit_server_and_to_nobody_else(url, servers):
    assert f"connect-src 'self' {servers};" in content_security_policy(url)


async def test_the_login_of_the_documentation_knows_who_is_logged_in_and_who_is_a_guest(monkeypatch):
    monkeypatch.chdir(generate.ROOT / "docs" / "examples")
    monkeypatch.setattr(sys, "path", list(sys.path))
    login = load_login("house:who")
    sys.modules.pop("house").SESSIONS["c00kie"] = "u-100"
    requests = [make_mocked_request("POST", "/api/token", {"Cookie": cookie}) for cookie in ("session=c00kie", "a=b")]
    assert [await login.user_id(request) for request in requests] == ["u-100", None]
