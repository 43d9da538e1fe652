"""The talk page as one's own: what the settings say gets into it, and nothing of it runs."""

from __future__ import annotations

import itertools
import json
import os
import re

import pytest

from lkmongo.errors import LkmongoError, SettingsError
from lkmongo.settings import Settings
from lkmongo.web import page
from lkmongo.web.brand import MAX_LOGO, Brand, contrast, load_brand, text_on
from tests.web_server import call, web_server

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><circle r="4"/></svg>'
PNG = b"\x89PNG\r\n\x1a\n" + bytes(50)
WEBP = b"RIFF\x10\x00\x00\x00WEBP" + bytes(50)
NASTY = '</script><script>alert("1")</script>\u2028 <!-- words -->'


TEMPLATE = """<!doctype html>
<html lang="{{lang}}"><title>{{name}}</title><!-- page --><!-- words --><!-- livekit-client --><p>{{greeting}}</p>"""


@pytest.fixture
def small_page(tmp_path, monkeypatch):
    """A page with the places that the talk page has, and nothing else."""
    folder = tmp_path / "static"
    folder.mkdir()
    (folder / "talk.html").write_text(TEMPLATE)
    words = {name: {"lang": name, "name": f"Talk {name}", "greeting": f"Hello {name}"} for name in ("en", "de")}
    (folder / "words.json").write_text(json.dumps(words))
    monkeypatch.setattr(page, "FOLDER", folder)


def brand_of(**settings) -> Brand:
    return load_brand(Settings.load({f"LKMONGO_WEB_{name}": value for name, value in settings.items()}))


async def shown(server, language="en"):
    """The page and its two blocks of data."""
    async with server.browser().get(server.url, headers={"Accept-Language": language}) as answer:
        text, headers = await answer.text(), answer.headers
    blocks = re.findall(r'<script type="application/json" id="(\w+)">(.*?)</script>', text)
    return text, {name: json.loads(content) for name, content in blocks}, headers


async def test_what_is_set_is_in_the_page_as_data_and_as_text(store, tmp_path, small_page):
    (tmp_path / "logo.svg").write_bytes(SVG)
    brand = brand_of(
        NAME=" Fountain &  Sons ",
        COLOR="#FFCC00",
        LOGO=str(tmp_path / "logo.svg"),
        GREETING="What may we mend?",
        EXAMPLES="Where is my order? | What do you know about me?",
    )
    async with web_server(store, brand=brand) as server:
        text, data, _ = await shown(server)
        _, style = await call(server.browser(), "GET", f"{server.url}brand.css")
    assert data["page"] == {
        "name": "Fountain & Sons",
        "color": "#ffcc00",
        "logo": "logo",
        "greeting": "What may we mend?",
        "examples": ["Where is my order?", "What do you know about me?"],
    }
    assert data["words"]["name"] == "Fountain & Sons"
    assert "<title>Fountain &amp; Sons</title>" in text
    assert '<link rel="stylesheet" href="brand.css">' in text
    assert style == b":root { --brand: #ffcc00; --brand-text: #000; }\n"


async def test_nothing_that_is_set_can_close_its_element(store, small_page):
    async with web_server(store, brand=Brand(NASTY, greeting=NASTY, examples=(NASTY,))) as server:
        text, data, headers = await shown(server)
    assert "<script>alert" not in text
    assert "\u2028" not in "".join(re.findall("<script.*?</script>", text))
    assert data["page"]["name"] == data["page"]["greeting"] == data["page"]["examples"][0] == NASTY
    assert "'unsafe-inline'" not in headers["Content-Security-Policy"], "what is no data would not run either"


async def test_without_settings_the_page_has_its_own(store, small_page):
    async with web_server(store) as server:
        text, data, _ = await shown(server)
        status, style = await call(server.browser(), "GET", f"{server.url}brand.css")
        assert (await call(server.browser(), "GET", f"{server.url}logo"))[0] == 404
    assert data["page"] == {"name": None, "color": None, "logo": None, "greeting": None, "examples": []}
    assert "brand.css" not in text
    assert (status, style) == (200, b"")


async def test_the_page_that_ships_has_a_place_for_all_of_it(store):
    async with web_server(store, brand=Brand("Fountain", "#ffcc00")) as server:
        text, data, _ = await shown(server, "de")
    assert (data["page"]["color"], data["words"]["name"], data["words"]["lang"]) == ("#ffcc00", "Fountain", "de")
    assert '<html lang="de">' in text
    assert "<title>Fountain</title>" in text
    assert text.count("<!--") == 0, "a place is left over"


async def test_each_language_and_brand_is_cached_as_itself(store, small_page):
    tags = {}
    for brand in (Brand(), Brand("Fountain")):
        async with web_server(store, brand=brand) as server:
            for language in ("en", "de-AT,de;q=0.9,en;q=0.8", "fr"):
                _, data, headers = await shown(server, language)
                assert "Accept-Language" in headers["Vary"]
                assert headers["Content-Language"] == data["words"]["lang"]
                tags[brand.name, language] = headers["ETag"]
                wanted = {"Accept-Language": language, "If-None-Match": headers["ETag"]}
                async with server.browser().get(server.url, headers=wanted) as answer:
                    assert answer.status == 304
                    assert "Accept-Language" in answer.headers["Vary"]
    assert tags[None, "en"] == tags[None, "fr"]
    assert len(set(tags.values())) == 4


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [("a.svg", SVG, "image/svg+xml"), ("b.PNG", PNG, "image/png"), ("c.webp", WEBP, "image/webp")],
)
async def test_a_logo_is_an_image_and_nothing_else(store, tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    async with web_server(store, brand=brand_of(LOGO=str(tmp_path / name))) as server:
        async with server.browser().get(f"{server.url}logo") as answer:
            assert (answer.status, await answer.read(), answer.headers["Content-Type"]) == (200, content, kind)
            policy = answer.headers.getall("Content-Security-Policy")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert len(policy) == 1
        assert "default-src 'none'" in policy[0]
        assert policy[0].endswith("; sandbox")
        assert "script-src" not in policy[0]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.svg", None, "cannot be read"),
        ("a.png", SVG, "is no PNG image"),
        ("a.webp", PNG, "is no WEBP image"),
        ("a.svg", b"<html><script>alert(1)</script></html>", "is no SVG image"),
        ("a.svg", b"", "is no SVG image"),
        ("a.png", PNG + bytes(MAX_LOGO), "has more than 200 KB"),
    ],
)
def test_what_is_no_logo_is_refused_before_anything_starts(tmp_path, name, content, told):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError, match=f"LKMONGO_WEB_LOGO: .*{name} {told}"):
        brand_of(LOGO=str(tmp_path / name))


def test_a_pipe_or_a_folder_is_no_logo(tmp_path):
    os.mkfifo(tmp_path / "a.svg")
    (tmp_path / "b.svg").mkdir()
    for name in ("a.svg", "b.svg"):
        with pytest.raises(SettingsError, match="cannot be read"):
            brand_of(LOGO=str(tmp_path / name))


def test_text_can_be_read_on_any_color():
    steps = [f"{value:02x}" for value in range(0, 256, 15)]
    colors = [f"#{''.join(each)}" for each in itertools.product(steps, repeat=3)] + ["#757575", "#767676", "#777777"]
    assert min(contrast(text_on(color), color) for color in colors) >= 4.5
    assert (contrast("#000", "#fff"), contrast("#fff", "#ffffff")) == (21, 1)
    assert round(contrast("#fff", "#767676"), 2) == 4.54, "as WCAG's own example has it"


def test_the_languages_that_ship_have_the_same_words():
    words = page.load_words()
    assert {"en", "de"} <= words.keys()
    assert all(text.strip() for texts in words.values() for text in texts.values())


@pytest.mark.parametrize(
    ("words", "template", "told"),
    [
        ({"en": {"name": "a", "greeting": "b"}, "de": {"name": "a", "new": "c"}}, "", "de and en: greeting, new"),
        ({"en": {"name": "a", "greeting": "b"}}, "{{name}} {{unknown}}", "unknown"),
    ],
)
def test_words_that_are_missing_are_named_at_the_start(monkeypatch, tmp_path, words, template, told):
    (tmp_path / "words.json").write_text(json.dumps(words))
    (tmp_path / "talk.html").write_text(template)
    monkeypatch.setattr(page, "FOLDER", tmp_path)
    with pytest.raises(LkmongoError) as caught:
        list(page.page_routes(""))
    assert told in str(caught.value.why)
