"""Write what `make demo` segments and the README's picture, from the pinned test splits and the shipped model.

Run `python scripts/make_demo.py`; the scenes below were chosen to show different kinds of instruction.
"""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

import leanseg
from leanseg.data.scenes.export.files import write_picture
from leanseg.data.scenes.splits import SPLITS
from leanseg.engine.overlay import compare
from leanseg.engine.video import write_clip

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "src" / "leanseg" / "assets" / "demo"
PICTURE, CLIP = 3, 1
README_ROWS = ((3, 0), (7, 0))


def main() -> None:
    """Write demo.json, picture.png, clip.mp4 and docs/images/readme.png."""
    DEMO.mkdir(parents=True, exist_ok=True)
    scene, clip = SPLITS["test"].scene(PICTURE), SPLITS["clips_test"].scene(CLIP)
    write_picture(DEMO / "picture.png", scene.image)
    write_clip(DEMO / "clip.mp4", clip.frames, fps=4)
    asked = {
        "picture.png": [one.text for one in scene.instructions[:3]],
        "clip.mp4": [one.text for one in clip.instructions[:2]],
    }
    (DEMO / "demo.json").write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    model = leanseg.load("instructseg-nano", device="cpu")
    rows = []
    for number, which in README_ROWS:
        shown = SPLITS["test"].scene(number)
        result = model.segment(shown.image, shown.instructions[which].text, pruner=leanseg.EVTP(keep_ratio=0.2))
        kept = result.selections[0].indices[0].numpy()
        rows.append(compare(shown.image, result.masks[0], kept, model.layout))
    figure = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        figure.paste(row, (0, top))
        top += row.height
    figure.save(ROOT / "docs" / "images" / "readme.png")


if __name__ == "__main__":
    main()
