"""Charts as SVG that stands inside a page: its style comes from the page, and its text is escaped here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from lkmongo.cli.text import visible

_WIDTH, _HEIGHT = 720, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 24, 12, 26
_INNER_WIDTH, _INNER_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_NAMES, _ROW = 190, 28
_LABELS = 6
_SHAPES = 120
"""Points up to which each has a shape of its own; more would only be a smear."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart; None is a gap. `style` is "one" or "two": colour, dash and shape."""

    name: str
    style: str
    values: Sequence[float | None]


def text(value: object) -> str:
    """Text for a page: nothing in it is markup, and nothing in it is invisible."""
    return escape(visible(str(value), one_line=True))


def columns(days: Sequence[str], values: Sequence[float], title: str, *, style: str = "one") -> str:
    """A column for each day."""
    most = max(2.0, _round_up(max(values, default=0)))  # of things that are counted there is no half
    step = _INNER_WIDTH / max(1, len(days))
    gap = min(4.0, step * 0.2)
    shapes = (
        f'<rect class="{style}" x="{_LEFT + number * step + gap / 2:.1f}" y="{_y(value, most):.1f}" '
        f'width="{step - gap:.1f}" height="{value / most * _INNER_HEIGHT:.1f}">'
        f"<title>{text(day)}: {value:,.0f}</title></rect>"
        for number, (day, value) in enumerate(zip(days, values, strict=True))
        if value
    )
    about = f"{title}, from {days[0]} to {days[-1]}; the most is {max(values):,.0f}."
    return _plot(days, most, title, about, shapes, lambda value: f"{value:,.4g}")


def lines(days: Sequence[str], series: Sequence[Series], title: str, *, unit: str = "s") -> str:
    """A line for each series, with a gap where there is nothing."""
    known = [value for one in series for value in one.values if value is not None]
    most = _round_up(max(known, default=0))
    about = f"{title}, from {days[0]} to {days[-1]}; " + "; ".join(
        f"{one.name} is at most {max((v for v in one.values if v is not None), default=0):.2f} {unit}" for one in series
    )
    shapes = (shape for one in series for shape in _line(days, one, most, unit))
    return _plot(days, most, title, about + ".", shapes, lambda value: f"{value:.4g} {unit}")


def _line(days: Sequence[str], series: Series, most: float, unit: str) -> Iterator[str]:
    step = _INNER_WIDTH / max(1, len(days))
    path, pen = [], "M"
    for number, (day, value) in enumerate(zip(days, series.values, strict=True)):
        if value is None:
            pen = "M"
            continue
        x, y = _LEFT + (number + 0.5) * step, _y(value, most)
        path.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
        told = f"<title>{text(day)}: {series.name} {value:.2f} {unit}</title>"
        if len(days) > _SHAPES:
            continue
        if series.style == "one":
            yield f'<circle class="one" cx="{x:.1f}" cy="{y:.1f}" r="3.5">{told}</circle>'
        else:
            yield f'<rect class="two" x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6">{told}</rect>'
    yield f'<path class="line-{series.style}" d="{" ".join(path)}"/>'


def bars(values: Sequence[tuple[str, int]], title: str) -> str:
    """A lying bar for each name."""
    most = max((value for _, value in values), default=0) or 1
    room = _WIDTH - _NAMES - 90
    shapes = (
        f'<text class="name" x="{_NAMES - 8}" y="{number * _ROW + 19}" text-anchor="end">{text(_short(name))}</text>'
        f'<rect class="one" x="{_NAMES}" y="{number * _ROW + 5}" width="{max(1.0, value / most * room):.1f}" height="18">'
        f"<title>{text(name)}: {value:,}</title></rect>"
        f'<text x="{_NAMES + value / most * room + 6:.1f}" y="{number * _ROW + 19}">{value:,}</text>'
        for number, (name, value) in enumerate(values)
    )
    about = f"{title}: " + ", ".join(f"{name} {value:,}" for name, value in values) + "."
    return _svg(title, about, _ROW * len(values) + 6, shapes)


def _plot(
    days: Sequence[str], most: float, title: str, about: str, shapes: Iterator[str], scale: Callable[[float], str]
) -> str:
    return _svg(title, about, _HEIGHT, (*_grid(days, most, scale), *shapes))


def _grid(days: Sequence[str], most: float, scale: Callable[[float], str]) -> Iterator[str]:
    for value in (0.0, most / 2, most):
        y = _y(value, most)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{scale(value)}</text>'
    step = _INNER_WIDTH / max(1, len(days))
    every = max(1, -(-len(days) // _LABELS))
    for number in range(0, len(days), every):
        x = _LEFT + (number + 0.5) * step
        yield f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{text(days[number][-5:])}</text>'


def _svg(title: str, about: str, height: int, shapes: Sequence[str] | Iterator[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{text(about)}">'
        f"<title>{text(title)}</title>{''.join(shapes)}</svg>"
    )


def _y(value: float, most: float) -> float:
    return _TOP + _INNER_HEIGHT * (1 - value / most)


def _round_up(value: float) -> float:
    """The next of 1, 2, 3, 4, 6, 8, 10 and so on: the top of a scale whose middle is a plain number too."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(step * power for step in (1, 2, 3, 4, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:25]}…"
