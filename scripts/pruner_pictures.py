"""Draw what every method keeps of one generated scene, with the tokens of the shipped model: docs/images/pruners/.

    python scripts/pruner_pictures.py

One picture per registered pruner and wrapper. Methods that look at each frame by itself are shown on the middle frame
of a clip, those that choose among a clip's frames together on its five frames in a row. Cells that were kept are in
colour; for methods that merge, every other cell wears the colour of the kept cell that stands for it.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import leanseg
from leanseg.core import Selection, VisualTokens
from leanseg.data.scenes.splits import find
from leanseg.engine.overlay import kept_cells
from leanseg.engine.segmenter import ModelSegmenter
from leanseg.models.instructseg.preprocess import siglip_pixels
from leanseg.models.instructseg.views import encode_frame
from leanseg.pruners import PRUNERS, WRAPPERS, Pruner, pruner

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "images" / "pruners"
PAGE = ROOT / "docs" / "pruners.md"
CLIP = 7
FRAMES = 5
KEY = 2
KEEP_RATIO = 0.1
# What a wrapper is shown with; every name of WRAPPERS must stand here.
WRAPPED = {
    "reserve": "reserve(inner=evtp())",
    "union": "union(first=attention(), second=uniform())",
    "chain": "chain(first=attention(keep_ratio=0.5), second=evtp())",
    "joint": "joint(inner=kcenter())",
    "adaptive": "adaptive(inner=evtp(), radius=0.8)",
    "smooth": "smooth(inner=evtp())",
}
_SIDE = 256
_STRIP_SIDE = 192
_GAP = 6
_BLOCK = re.compile(r"(<!-- pruner pictures -->\n)(.*?)(<!-- /pruner pictures -->)", re.DOTALL)


def specs() -> dict[str, str]:
    """Return the spec string that each method is shown with."""
    return {name: name for name in PRUNERS} | {name: WRAPPED[name] for name in WRAPPERS}


def render_page(text: str) -> str:
    """Return the text of the pruners' page with one picture for every method of today."""
    lines = []
    for name, spec in specs().items():
        lines += [f"`{spec}`", "", f"![{name}](images/pruners/{name}.png)", ""]
    return _BLOCK.sub(lambda match: f"{match[1]}" + "\n".join(lines) + match[3], text)


@torch.inference_mode()
def main() -> None:
    model = leanseg.load("instructseg-nano", device="cpu")
    scene = find("clips_test").scene(CLIP)
    frames = [np.asarray(frame) for frame in scene.frames][:FRAMES]
    instruction = scene.instructions[0].text
    tokens = _tokens(model, frames)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, spec in specs().items():
        made = pruner(spec, keep_ratio=KEEP_RATIO)
        if made.scope == "clip":
            selections = made(tokens.joined(key_frame=KEY)).split(FRAMES)
            panels = [
                _panel(model, frame, selection, _STRIP_SIDE)
                for frame, selection in zip(frames, selections, strict=True)
            ]
        else:
            panels = _picture(model, frames[KEY], instruction, made)
        picture = _row([*panels]) if made.scope == "clip" else _row(panels)
        picture.quantize(128, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)
        print(f"{name}: {made.spec()}")
    PAGE.write_text(render_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def _tokens(model: ModelSegmenter, frames: list[np.ndarray]) -> VisualTokens:
    """Return the frames' tokens with the cues of the tower, as a batch."""
    size = model.config.vision.image_size
    encoded = [encode_frame(model.model, siglip_pixels(frame, size)[None], cues=True) for frame in frames]
    return VisualTokens(
        features=torch.cat([each.features for each in encoded]),
        grid=model.layout.grid,
        attention=torch.cat([each.attention for each in encoded]),
        keys=torch.cat([each.keys for each in encoded]),
    )


def _picture(model: ModelSegmenter, frame: np.ndarray, instruction: str, made: Pruner) -> list[Image.Image]:
    """Return the frame, what was kept of it and, where tokens are merged, what stands for what."""
    site = "after_projector" if "guidance" in made.cues else "before_projector"
    selection = model.segment(frame, instruction, pruner=made, site=site).selections[0]
    panels = [Image.fromarray(frame).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)]
    panels.append(_panel(model, frame, selection, _SIDE))
    if selection.owner is not None:
        panels.append(_owners(model, frame, selection))
    return panels


def _panel(model: ModelSegmenter, frame: np.ndarray, selection: Selection, side: int) -> Image.Image:
    picture = kept_cells(frame, selection.indices[0].numpy(), model.layout, min_side=side)
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def _owners(model: ModelSegmenter, frame: np.ndarray, selection: Selection) -> Image.Image:
    """Paint every cell with the mean colour of the cells that its owner stands for; dropped ones stay white."""
    grid = model.layout.grid
    cells = np.asarray(Image.fromarray(frame).resize((grid.width, grid.height), Image.Resampling.BOX))
    colours = torch.from_numpy(cells.astype(np.float32)).reshape(1, -1, 3)
    painted = selection.expand(selection.pool(colours), fill=255.0)
    small = painted.reshape(grid.height, grid.width, 3).round().to(torch.uint8).numpy()
    return Image.fromarray(small).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)


def _row(panels: list[Image.Image]) -> Image.Image:
    width = sum(panel.width for panel in panels) + _GAP * (len(panels) - 1)
    row = Image.new("RGB", (width, panels[0].height), "white")
    left = 0
    for panel in panels:
        row.paste(panel, (left, 0))
        left += panel.width + _GAP
    return row


if __name__ == "__main__":
    main()
