"""`make demo`: run `leanseg segment` on the pictures and clips in the package, and say where the overlays are.

`src/leanseg/assets/demo/demo.json` maps each file to its instructions. Everything runs on the CPU and offline, with the
small trained models: InstructSeg's at a fifth of the visual tokens, then VLTP's, whose image encoder drops half of its
own.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = ROOT / "src" / "leanseg" / "assets" / "demo"
OUT = Path("out") / "demo"
PRUNER = "evtp(keep_ratio=0.2)"
# What VLTP's small model was taught to be asked: things by their kind or use. Chosen among good answers.
VLTP = ("picture.png", "every insect", "you can eat the thing when you are hungry")


def main() -> int:
    """Run every entry of demo.json and print the overlays' paths; the exit code is that of the first failure."""
    started = time.monotonic()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    overlays: list[Path] = []
    asked = json.loads((FILES / "demo.json").read_text(encoding="utf-8"))
    runs = [([name, *instructions, "--pruner", PRUNER], Path(name).stem) for name, instructions in asked.items()]
    runs.append(([*VLTP, "--model", "vltp-nano"], "vltp"))
    for (name, *rest), folder in runs:
        out = OUT / folder
        arguments = ["segment", str((FILES / name).relative_to(ROOT)), *rest, "--out", str(out)]
        print("$ leanseg " + shlex.join(arguments), flush=True)
        done = subprocess.run([sys.executable, "-m", "leanseg.cli", *arguments], cwd=ROOT, env=environment, check=False)
        if done.returncode != 0:
            return done.returncode
        overlays += sorted((ROOT / out).glob("*/overlay.*"))
        print(flush=True)
    seconds = time.monotonic() - started
    print(f"Done in {seconds:.0f} s. Open these: the mask is tinted, a dot is a visual token that was kept.")
    print("Those of vltp have a panel for each stage inside the image encoder.")
    for path in overlays:
        print(f"  {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
