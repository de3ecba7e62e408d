"""The shipped sprites: two lossless pictures (palette indices, palettes) and how they were made from the font.

Every sprite has its own palette of `PALETTE_COLORS` RGBA colours, so that 242 smooth drawings take a few hundred kB
and decode to the same bytes everywhere. `rebuild` makes the files anew from Noto Color Emoji.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from leanseg.data.scenes.items import ITEMS
from leanseg.errors import DataError, InputError

SPRITE_SIDE = 96
PALETTE_COLORS = 64
COLUMNS = 16
_FONT_SIZE = 109  # the only size of the font's bitmaps
_FILES = ("sprites.png", "palettes.png", "atlas.json")


def _read(name: str) -> bytes:
    source = files("leanseg") / "assets" / "scenes" / name
    if not source.is_file():
        raise DataError(
            f"the sprite atlas file {name!r} is missing from the installed package; expected {', '.join(_FILES)} in "
            "leanseg/assets/scenes; reinstall leanseg, or rebuild the atlas with leanseg.data.scenes.atlas.rebuild"
        )
    return source.read_bytes()


@cache
def sprites() -> tuple[NDArray[np.uint8], ...]:
    """Return every sprite as premultiplied RGBA (96, 96, 4), centred, longest side 96 pixels, in the items' order."""
    index = json.loads(_read("atlas.json"))
    if index["codepoints"] != [item.codepoint for item in ITEMS]:
        raise DataError(
            "the sprite atlas does not show the items of this version of leanseg; reinstall leanseg, or rebuild the "
            "atlas with leanseg.data.scenes.atlas.rebuild"
        )
    cells = np.asarray(Image.open(BytesIO(_read("sprites.png"))), dtype=np.uint8)
    palettes = np.asarray(Image.open(BytesIO(_read("palettes.png"))), dtype=np.uint8)
    found = []
    for number in range(len(ITEMS)):
        row, column = divmod(number, COLUMNS)
        cell = cells[row * SPRITE_SIDE : (row + 1) * SPRITE_SIDE, column * SPRITE_SIDE : (column + 1) * SPRITE_SIDE]
        found.append(palettes[number][cell])
    return tuple(found)


def rebuild(font: Path, out: Path) -> dict[str, int]:
    """Render every item with the font, quantise, write the atlas files into `out` and return their sizes in bytes."""
    if not font.is_file():
        raise InputError(
            f"font {str(font)!r} does not exist; expected NotoColorEmoji.ttf (Debian package fonts-noto-color-emoji); "
            "give its path"
        )
    face = ImageFont.truetype(str(font), _FONT_SIZE)
    rows = -(-len(ITEMS) // COLUMNS)
    cells = np.zeros((rows * SPRITE_SIDE, COLUMNS * SPRITE_SIDE), dtype=np.uint8)
    palettes = np.zeros((len(ITEMS), PALETTE_COLORS, 4), dtype=np.uint8)
    for number, item in enumerate(ITEMS):
        palettes[number], indices = _quantise(_render(face, item.codepoint))
        row, column = divmod(number, COLUMNS)
        cells[row * SPRITE_SIDE :, column * SPRITE_SIDE :][:SPRITE_SIDE, :SPRITE_SIDE] = indices
    out.mkdir(parents=True, exist_ok=True)
    Image.fromarray(cells).save(out / "sprites.png", optimize=True)
    Image.fromarray(palettes).save(out / "palettes.png", optimize=True)
    index: dict[str, Any] = {
        "font": "Noto Color Emoji 2.042",
        "sprite_side": SPRITE_SIDE,
        "columns": COLUMNS,
        "palette_colors": PALETTE_COLORS,
        "pixels": "sprites.png holds palette indices; row k of palettes.png is sprite k's palette, premultiplied RGBA",
        "codepoints": [item.codepoint for item in ITEMS],
        "names": [item.name for item in ITEMS],
    }
    (out / "atlas.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return {name: (out / name).stat().st_size for name in _FILES}


def _render(face: ImageFont.FreeTypeFont, codepoint: str) -> NDArray[np.uint8]:
    """Return one emoji as premultiplied RGBA (96, 96, 4)."""
    canvas = Image.new("RGBA", (192, 192))
    ImageDraw.Draw(canvas).text((24, 24), chr(int(codepoint, 16)), font=face, embedded_color=True)
    box = canvas.getchannel("A").getbbox()
    if box is None:
        raise DataError(f"the font has no drawing for U+{codepoint}; expected Noto Color Emoji 2.042; use that version")
    glyph = canvas.crop(box)
    scale = SPRITE_SIDE / max(glyph.size)
    glyph = glyph.resize(
        (max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale))), Image.Resampling.LANCZOS
    )
    cell = Image.new("RGBA", (SPRITE_SIDE, SPRITE_SIDE))
    cell.paste(glyph, ((SPRITE_SIDE - glyph.width) // 2, (SPRITE_SIDE - glyph.height) // 2))
    pixels = np.asarray(cell, dtype=np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255
    return (pixels + 0.5).astype(np.uint8)


def _quantise(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return (palette (64, 4), indices (96, 96)) by k-means; index 0 is transparent, the others go dark to light."""
    flat = pixels.reshape(-1, 4).astype(np.float64)
    inside = flat[flat[:, 3] > 0]
    rng = np.random.default_rng(0)
    colors = np.unique(inside, axis=0)
    centers = colors[np.linspace(0, len(colors) - 1, PALETTE_COLORS - 1).astype(int)]
    for _ in range(25):
        nearest = _nearest(inside, centers)
        for slot in range(len(centers)):
            owned = inside[nearest == slot]
            centers[slot] = owned.mean(axis=0) if len(owned) else inside[rng.integers(len(inside))]
    centers = centers[np.argsort(centers @ np.array([0.3, 0.6, 0.1, 0.5]))]
    palette = np.concatenate([np.zeros((1, 4)), np.round(centers)]).astype(np.uint8)
    indices = _nearest(flat, palette.astype(np.float64))
    indices[flat[:, 3] == 0] = 0
    return palette, indices.astype(np.uint8).reshape(pixels.shape[:2])


def _nearest(points: NDArray[np.float64], centers: NDArray[np.float64]) -> NDArray[np.int64]:
    distance = (centers**2).sum(axis=1)[None] - 2 * points @ centers.T
    return np.asarray(distance.argmin(axis=1), dtype=np.int64)
