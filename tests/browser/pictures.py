"""Pictures of the page in its states, for the documents: `make pictures`."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import pytest

from tests.browser.conftest import ROOT
from tests.browser.states import STATES, Rig, silence, states

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOLDER = Path(os.environ.get("PICTURES") or ROOT / "docs/images")
DESK, PHONE = {"width": 1100, "height": 720}, {"width": 390, "height": 720}
SHEET = """<style>
  body {{ margin: 0; padding: 20px; background: #8b9490; display: grid; gap: 20px; width: max-content; }}
  img {{ display: block; border-radius: 14px; }}
  body {{ grid-template-columns: auto auto; }}
</style>{images}"""


@pytest.fixture
def rig(records, client, livekit_server, gateway, voice_worker, tmp_path) -> Rig:
    return Rig(records, client, livekit_server, gateway, silence(tmp_path))


def save(picture: bytes, path: Path) -> None:
    """Write it in 256 colours: a third of the size, and nobody sees it."""
    from PIL import Image

    whole = Image.open(io.BytesIO(picture)).convert("RGB")
    colours = whole.quantize(256, method=Image.Quantize.FASTOCTREE)  # the rare ones as well
    whole.quantize(palette=colours, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


@pytest.mark.timeout(1_200)
async def test_the_page_is_pictured(visit, launch, rig):
    sheet = await (await launch()).new_page(viewport={"width": 1560, "height": 1500})
    taken = []
    async for name, page in states(visit, rig):
        images = []
        for theme in ("light", "dark"):
            await page.emulate_media(color_scheme=theme)
            for size in (DESK, PHONE):
                await page.set_viewport_size(size)
                await page.wait_for_timeout(400)  # what appears has appeared
                shot = base64.b64encode(await page.screenshot()).decode()
                images.append(f'<img src="data:image/png;base64,{shot}">')
        await page.set_viewport_size(DESK)
        await sheet.set_content(SHEET.format(images="".join(images)))
        save(await sheet.locator("body").screenshot(), FOLDER / f"talk-{name}.png")
        taken.append(name)
    assert tuple(taken) == STATES
