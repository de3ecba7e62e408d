"""Write what `make demo` segments, from the pinned test splits, and the README's picture with the shipped model.

    python scripts/demo_files.py --picture 3 --clip 1 --readme 3:0,7:0

takes scene 3 of the split `test` and clip 1 of `clips_test`, and asks the first instructions of each. With `--readme`,
docs/images/readme.png gets a row for instruction 0 of scene 3 and one for instruction 0 of scene 7 of `test`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image

from leanseg.data.scenes import ClipScene, Scene
from leanseg.data.scenes.export.files import write_picture
from leanseg.data.scenes.splits import find
from leanseg.engine.clip_writer import ClipWriter

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "src" / "leanseg" / "assets" / "demo"
FIGURE = ROOT / "docs" / "images" / "readme.png"
FRAMES_PER_SECOND = 4
# Finer than the writer's default: the model should see the scene, not the codec.
QUALITY = 10
KEEP_RATIO = 0.2


def write_demo(picture: Scene, clip: ClipScene, n_instructions: int) -> None:
    """Write picture.png, clip.mp4 and demo.json, which maps each to its first distinct instructions."""
    write_picture(DEMO / "picture.png", picture.image)
    with ClipWriter(DEMO / "clip.mp4", fps=FRAMES_PER_SECOND, quality=QUALITY) as writer:
        for frame in clip.frames:
            writer.write(frame)
    asked = {
        name: list(dict.fromkeys(one.text for one in scene.instructions))[:n_instructions]
        for name, scene in (("picture.png", picture), ("clip.mp4", clip))
    }
    (DEMO / "demo.json").write_text(json.dumps(asked, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_figure(rows: list[tuple[int, int]]) -> None:
    """Write one row (scene, kept tokens, mask) for each (scene, instruction) of the split `test`; print the texts."""
    import leanseg
    from leanseg.engine.overlay import compare

    model = leanseg.load("instructseg-nano", device="cpu")
    panels = []
    for number, which in rows:
        scene = picture(number)
        text = scene.instructions[which].text
        answer = model.segment(scene.image, text, pruner=leanseg.EVTP(keep_ratio=KEEP_RATIO))
        panels.append(compare(scene.image, answer.masks[0], answer.selections[0].indices[0].numpy(), model.layout))
        print(f"{number}:{which} {text}")
    figure = Image.new("RGB", (panels[0].width, sum(panel.height for panel in panels)), "white")
    top = 0
    for panel in panels:
        figure.paste(panel, (0, top))
        top += panel.height
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.save(FIGURE, optimize=True)


def picture(number: int) -> Scene:
    scene = find("test").scene(number)
    if not isinstance(scene, Scene):
        raise TypeError("the split `test` holds clips; expected pictures")
    return scene


def clip(number: int) -> ClipScene:
    scene = find("clips_test").scene(number)
    if not isinstance(scene, ClipScene):
        raise TypeError("the split `clips_test` holds pictures; expected clips")
    return scene


def pairs(text: str) -> list[tuple[int, int]]:
    """Return the numbers of `scene:instruction,scene:instruction`.

    >>> pairs("3:0,7:1")
    [(3, 0), (7, 1)]
    """
    return [(int(scene), int(which)) for scene, which in (one.split(":") for one in text.split(","))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=int, default=3, metavar="N", help="scene of the split `test`")
    parser.add_argument("--clip", type=int, default=1, metavar="M", help="clip of the split `clips_test`")
    parser.add_argument("--instructions", type=int, default=2, help="how many instructions are asked of each")
    parser.add_argument("--readme", type=pairs, metavar="N:W,N:W", help="also draw the README's picture")
    given = parser.parse_args()
    write_demo(picture(given.picture), clip(given.clip), given.instructions)
    if given.readme:
        write_figure(given.readme)


if __name__ == "__main__":
    main()
