"""In a real Chromium: `make test-browser`. Nothing here is collected where the browser or its tools are not there."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lkmongo.web.server import Client
from tests.e2e.conftest import (  # noqa: F401 - fixtures
    gateway,
    livekit_server,
    records,
    start_worker,
    text_worker,
    voice_worker,
)
from tests.livekit_server import BINARY
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = Path(os.environ.get("BROWSER_TOOLS", ROOT / ".browser")) / "node_modules"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
CLIENT_FILE = MODULES / "livekit-client/dist/livekit-client.umd.js"
AXE = MODULES / "axe-core/axe.min.js"

_READY = CHROMIUM and CLIENT_FILE.exists() and importlib.util.find_spec("playwright")
collect_ignore_glob = ["test_*.py"] if not _READY else [] if BINARY else ["test_talk*.py", "test_aloud.py"]

QUIET = [
    "--no-sandbox",  # it may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
"""A microphone that beeps once a second, and that every page may use."""

Visit = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="session")
def client() -> Client:
    """LiveKit's browser client as `--assets` gives it."""
    return Client(CLIENT_FILE.read_bytes())


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def launch() -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Start a Chromium with these arguments; each is started once."""
    from playwright.async_api import async_playwright

    browsers: dict[tuple[str, ...], Any] = {}
    async with async_playwright() as playwright:

        async def launch(*arguments: str) -> Any:
            if arguments not in browsers:
                browsers[arguments] = await playwright.chromium.launch(
                    executable_path=CHROMIUM, args=[*QUIET, *arguments]
                )
            return browsers[arguments]

        yield launch
        for browser in browsers.values():
            await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visit(launch: Callable[..., Awaitable[Any]]) -> AsyncIterator[Visit]:
    """Open the page of a server in a browser without cookies, or in `context`; the console must stay clean."""
    contexts, problems = [], []

    async def visit(server: Any, *arguments: str, context: Any = None, script: str = "", **options: Any) -> Any:
        if context is None:
            browser = await launch(*(arguments or MICROPHONE))
            context = await browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
            contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(60_000)
        if script:
            await page.add_init_script(script)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if _is_problem(message.text) else None)
        await page.goto(server.url)
        return page

    yield visit
    for context in contexts:
        await context.close()
    assert problems == []


def _is_problem(text: str) -> bool:
    return "Content Security Policy" in text or "Uncaught" in text


async def violations(page: Any) -> list[str]:
    """The accessibility checker's findings on the page, by WCAG 2.2 A and AA and its own rules."""
    await page.evaluate("Promise.allSettled(document.getAnimations().map(({finished}) => finished))")
    # Evaluated, not loaded as an element: the page's policy lets no foreign script in.
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{each['id']}: {[node['html'] for node in each['nodes']]}" for each in found["violations"]]


async def becomes(page: Any, expression: str) -> None:
    """Wait until an expression is true in the page; polled from outside, as the page's policy forbids `eval`."""
    try:
        await until(lambda: page.evaluate(expression))
    except AssertionError as error:
        error.add_note(f"{expression}\n{await page.inner_text('body')}")
        raise


async def shows(page: Any, element_id: str, text: str) -> None:
    """Wait until an element shows a text."""
    await becomes(page, f"document.getElementById({json.dumps(element_id)}).textContent.includes({json.dumps(text)})")
