"""The page in each of its states, light and dark, on phones and on a desk: everybody can use it, and it all fits."""

from __future__ import annotations

import pytest

from tests.browser.conftest import violations
from tests.browser.states import STATES, Rig, silence, states

pytestmark = pytest.mark.asyncio(loop_scope="session")

SIZES = ((320, 568), (390, 844), (1280, 800))
FITS = """(() => {
  const wrong = [];
  const {scrollWidth, scrollHeight} = document.documentElement;
  if (scrollWidth > innerWidth) wrong.push(`${scrollWidth} px wide`);
  if (scrollHeight > innerHeight) wrong.push(`${scrollHeight} px high`);
  const all = [document.getElementById("composer"), ...document.querySelectorAll("#composer button, #composer input")];
  for (const each of all) {
    const {top, bottom, left, right, width} = each.getBoundingClientRect();
    if (!width) continue;
    const shown = top >= 0 && left >= 0 && bottom <= innerHeight && right <= innerWidth;
    if (!shown) wrong.push(`${each.id || each.textContent} from ${left}, ${top} to ${right}, ${bottom}`);
  }
  for (const each of document.querySelectorAll("button, input, select, summary")) {
    const {width, height} = each.getBoundingClientRect();
    if (width && (width < 24 || height < 24)) wrong.push(`${each.id || each.textContent} is ${width} x ${height}`);
  }
  return wrong;
})()"""
"""What does not fit, and what is too small to be hit."""


@pytest.fixture
def rig(records, client, livekit_server, gateway, voice_worker, tmp_path) -> Rig:
    return Rig(records, client, livekit_server, gateway, silence(tmp_path))


@pytest.mark.timeout(1_200)
async def test_in_every_state_everybody_can_use_the_page_and_all_of_it_fits(visit, rig):
    found: dict[str, list[str]] = {}
    seen = []
    async for name, page in states(visit, rig):
        seen.append(name)
        for width, height in SIZES:
            await page.set_viewport_size({"width": width, "height": height})
            for theme in ("light", "dark"):
                await page.emulate_media(color_scheme=theme)
                if wrong := [*await violations(page), *await page.evaluate(FITS)]:
                    found[f"{name}, {theme}, {width} x {height}"] = wrong
    assert tuple(seen) == STATES
    assert found == {}
