"""The talk page as one's own: its name, color, logo, greeting and examples, from the settings LKMONGO_WEB_..."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from lkmongo.errors import SettingsError
from lkmongo.regular_files import open_regular
from lkmongo.web.page import serve_file

if TYPE_CHECKING:
    from lkmongo.settings import Settings

MAX_LOGO = 200_000
"""Bytes of a logo."""
BLACK, WHITE = "#000", "#fff"

_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp"}
_BEGINS = {
    ".svg": re.compile(rb"\s*(\xef\xbb\xbf)?\s*<(svg[\s>]|\?xml|!--|!DOCTYPE svg)"),
    ".png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    ".webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
_LOGO_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
"""An image could be opened as a document, and an SVG has scripts: none of them runs, nor has it an origin."""


@dataclass(frozen=True, slots=True)
class Logo:
    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Brand:
    """What is one's own; None and nothing where the page has its own."""

    name: str | None = None
    color: str | None = None
    logo: Logo | None = None
    greeting: str | None = None
    examples: tuple[str, ...] = ()

    @property
    def page(self) -> dict[str, Any]:
        """As the page's scripts find it; the logo is an address."""
        return {
            "name": self.name,
            "color": self.color,
            "logo": "logo" if self.logo else None,
            "greeting": self.greeting,
            "examples": list(self.examples),
        }

    @property
    def css(self) -> str:
        """The color, and that of text on it, as custom properties; nothing without one."""
        if self.color is None:
            return ""
        return f":root {{ --brand: {self.color}; --brand-text: {text_on(self.color)}; }}\n"


def text_on(color: str) -> str:
    """Black or white, whichever has more contrast on `#rrggbb`: at least 4.58 to 1, as the two meet there."""
    return max((BLACK, WHITE), key=lambda each: contrast(each, color))


def contrast(one: str, other: str) -> float:
    """The ratio of contrast of two colors, from 1 to 21 (WCAG 2.2)."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    digits = color.removeprefix("#")
    digits = digits if len(digits) == len("rrggbb") else "".join(each * 2 for each in digits)
    red, green, blue = (int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))
    return 0.2126 * _linear(red) + 0.7152 * _linear(green) + 0.0722 * _linear(blue)


def _linear(value: float) -> float:
    return float(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)


def load_brand(settings: Settings) -> Brand:
    """What the settings say. Raises SettingsError if the logo cannot be read, or is none."""
    return Brand(
        settings.web_name,
        settings.web_color,
        _load_logo(settings.web_logo) if settings.web_logo else None,
        settings.web_greeting,
        tuple(settings.web_examples.split("|")) if settings.web_examples else (),
    )


def _load_logo(path: Path) -> Logo:
    kind = path.suffix.lower()
    try:
        with open_regular(path.expanduser(), follow_links=True) as file:
            content = file.read(MAX_LOGO + 1)
    except OSError as error:
        raise SettingsError(
            f"LKMONGO_WEB_LOGO: {path} cannot be read", why=error.strerror, hint="name a file, or unset it"
        ) from error
    if len(content) > MAX_LOGO:
        raise SettingsError(
            f"LKMONGO_WEB_LOGO: {path} has more than {MAX_LOGO // 1_000} KB", hint="make it smaller: it is shown small"
        )
    if not _BEGINS[kind].match(content):
        raise SettingsError(f"LKMONGO_WEB_LOGO: {path} is no {kind[1:].upper()} image", hint="name it by what it is")
    return Logo(content, _TYPES[kind])


def brand_routes(brand: Brand) -> Iterable[web.RouteDef]:
    """The routes of what is one's own."""
    yield web.get("/brand.css", serve_file(brand.css.encode(), "text/css"))
    if logo := brand.logo:
        policy = {"Content-Security-Policy": _LOGO_POLICY}
        yield web.get("/logo", serve_file(logo.content, logo.content_type, policy))
