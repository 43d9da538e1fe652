"""The talk page as it is served: its files, and its words in the language that the browser asks for."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from aiohttp import web

from lkmongo.errors import LkmongoError
from lkmongo.invisible import safe_json

FOLDER = files("lkmongo.web") / "static"
DEFAULT_LANGUAGE = "en"
FOR_OTHER_PAGES = "visitor.js"
"""What pages of other origins load: it says nothing but how to ask for a token."""

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_BRAND = '<link rel="stylesheet" href="brand.css">'
_CLIENT, _WORDS, _PAGE = "<!-- livekit-client -->", "<!-- words -->", "<!-- page -->"
_WORD = re.compile(r"\{\{(\w+)\}\}")
_ACCEPTED = re.compile(r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9-]*)?\s*(?:;\s*q=([01](?:\.\d{0,3})?))?\s*")


def load_words() -> dict[str, dict[str, str]]:
    """The page's words: language, key, text. Raises LkmongoError unless all languages have the same keys."""
    found: dict[str, dict[str, str]] = json.loads((FOLDER / "words.json").read_text(encoding="utf-8"))
    keys = found[DEFAULT_LANGUAGE].keys()
    wrong = {name: sorted(keys ^ words.keys()) for name, words in found.items() if words.keys() != keys}
    if wrong:
        told = "; ".join(f"{name} and {DEFAULT_LANGUAGE}: {', '.join(names)}" for name, names in wrong.items())
        raise LkmongoError("the languages of words.json do not have the same keys", why=f"they differ in {told}")
    return found


def language(accepted: str, languages: Iterable[str]) -> str:
    """The language that a browser likes best (`Accept-Language`) and that the page has; English without one."""
    parts = map(_ACCEPTED.fullmatch, accepted[:1_000].split(","))
    wanted = [(float(found[2] or 1), found[1].lower()) for found in parts if found]
    there = set(languages)
    best = sorted((each for each in wanted if each[0] and each[1] in there), key=lambda each: -each[0])
    return best[0][1] if best else DEFAULT_LANGUAGE


def render(template: str, words: Mapping[str, str], page: Mapping[str, Any], client_tag: str) -> str:
    """The document in one language: `{{key}}` is a word, and the scripts find words and page as JSON.

    Raises:
        LkmongoError: there is no such word.
    """
    named = {**words, "name": page.get("name") or words["name"], "greeting": page.get("greeting") or words["greeting"]}
    if unknown := set(_WORD.findall(template)) - named.keys():
        raise LkmongoError("the page has words that words.json lacks", why=", ".join(sorted(unknown)))
    text = _WORD.sub(lambda match: html.escape(named[match[1]]), template)
    return (
        text.replace(_CLIENT, client_tag)
        .replace(_WORDS, _data("words", named))
        .replace(_PAGE, (_BRAND if page.get("color") else "") + _data("page", dict(page)))
    )


def _data(element_id: str, content: Mapping[str, Any]) -> str:
    """JSON that scripts read and browsers do not run; nothing in it can close the element."""
    text = safe_json(json.dumps(content, ensure_ascii=False, separators=(",", ":"))).replace("<", "\\u003c")
    return f'<script type="application/json" id="{element_id}">{text}</script>'


def page_routes(client_tag: str, page: Mapping[str, Any] | None = None) -> Iterable[web.RouteDef]:
    """The routes of the page and its files, which are read once.

    Args:
        client_tag: the element that loads LiveKit's browser client.
        page: what the operator has set: name, color, logo, greeting, examples.
    """
    template = (FOLDER / "talk.html").read_text(encoding="utf-8")
    documents = {
        name: serve_file(
            render(template, words, page or {}, client_tag).encode(),
            _TYPES[".html"],
            {"Content-Language": name, "Vary": "Accept-Language, Accept-Encoding"},
        )
        for name, words in load_words().items()
    }

    async def document(request: web.Request) -> web.Response:
        return await documents[language(request.headers.get("Accept-Language", ""), documents)](request)

    yield web.get("/", document)
    for file in FOLDER.iterdir():
        if (suffix := Path(file.name).suffix) in {".css", ".js"}:
            extra = {"Access-Control-Allow-Origin": "*"} if file.name == FOR_OTHER_PAGES else None
            yield web.get(f"/{file.name}", serve_file(file.read_bytes(), _TYPES[suffix], extra))


def serve_file(
    content: bytes, content_type: str, extra: Mapping[str, str] | None = None
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A handler that serves `content`, with an ETag and these further headers."""
    tag = hashlib.sha256(content).hexdigest()[:32]

    async def answer(request: web.Request) -> web.Response:
        headers = {"Cache-Control": "no-cache", "ETag": f'"{tag}"', "Vary": "Accept-Encoding", **(extra or {})}
        if any(each.value == tag for each in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        is_text = content_type.startswith("text/")
        charset = "utf-8" if is_text else None
        response = web.Response(body=content, content_type=content_type, charset=charset, headers=headers)
        if is_text or content_type == "image/svg+xml":
            response.enable_compression()
        return response

    return answer
