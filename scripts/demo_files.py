"""Write the picture and the clip of `make demo`, and their instructions, from scenes that no training ever saw.

    python scripts/demo_files.py --picture 3 --clip 4

takes scene 3 of the split `test` and clip 4 of `clips_test`. The first instructions of each are asked.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from leanseg.data.scenes import ClipScene, Scene
from leanseg.data.scenes.export.files import write_picture
from leanseg.data.scenes.splits import find
from leanseg.engine.clip_writer import ClipWriter

DEMO = Path(__file__).resolve().parents[1] / "src" / "leanseg" / "assets" / "demo"
FRAMES_PER_SECOND = 8
# Finer than the writer's default: the model should see the scene, not the codec.
QUALITY = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", type=int, default=3, help="scene of the split `test`")
    parser.add_argument("--clip", type=int, default=1, help="clip of the split `clips_test`")
    parser.add_argument("--instructions", type=int, default=2, help="how many instructions are asked of each")
    given = parser.parse_args()
    picture, clip = find("test").scene(given.picture), find("clips_test").scene(given.clip)
    assert isinstance(picture, Scene)
    assert isinstance(clip, ClipScene)
    write_picture(DEMO / "picture.png", picture.image)
    with ClipWriter(DEMO / "clip.mp4", fps=FRAMES_PER_SECOND, quality=QUALITY) as writer:
        for frame in clip.frames:
            writer.write(frame)
    asked = {
        name: list(dict.fromkeys(one.text for one in scene.instructions))[: given.instructions]
        for name, scene in (("picture.png", picture), ("clip.mp4", clip))
    }
    (DEMO / "demo.json").write_text(json.dumps(asked, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
