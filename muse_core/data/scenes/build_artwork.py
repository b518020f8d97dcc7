"""Make the sprite sheets from the designers' vector drawings. Run once by maintainers; not needed to use muse.

    npm install @iconify-json/noto @iconify-json/twemoji @iconify-json/fxemoji @iconify-json/emojione \\
                @iconify-json/streamline-emojis @iconify-json/fluent-emoji-flat
    pip install resvg-py pillow numpy
    python -m muse_core.data.scenes.build_artwork node_modules

Every drawing is rasterised large, cropped to what is visible, scaled so that its longer side is 48 pixels, and placed
in a 14 x 7 grid in class order. A class that a designer has not drawn (or draws as something else) stays transparent.
"""

from __future__ import annotations

import io
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from muse_core.data.scenes.sprites import SHEET_COLUMNS, SPRITE
from muse_core.data.scenes.vocabulary import CLASSES, SceneClass

PACKAGES = {
    "noto": "noto",
    "twemoji": "twemoji",
    "fxemoji": "fxemoji",
    "emojitwo": "emojione",
    "streamline": "streamline-emojis",
    "fluent": "fluent-emoji-flat",
}

RASTER = 4 * SPRITE

# Sets that carry no table of code points, and name a few drawings differently from the others.
RENAMED = {
    "emojitwo": {"robot": "robot-face"},
    "streamline": {
        **{name: f"{name}-face" for name in ("bear", "panda", "lion", "frog", "unicorn")},
        "fox": "fox-face-1",
        "robot": "robot-face-1",
        "snowman": "snowman",
        "heart": "heart-suit",
        "sun": "sun-with-face",
        "house": "house-with-garden",
    },
    "fxemoji": {
        "fox": "foxsmiling",
        "rabbit": "bunny",
        "panda": "pandaface",
        "bee": "honeybee",
        "ladybug": "ladybeetle",
        "whale": "spurtingwhale",
        "apple": "redapple",
        "eggplant": "aubergine",
        "corn": "earofmaize",
        "pizza": "sliceofpizza",
        "donut": "doughnut",
        "cake": "shortcake",
        "icecream": "softicecream",
        "tree": "deciduoustree",
        "leaf": "mapleleaf",
        "sun": "sunrays",
        "moon": "crescentmoon",
        "star": "whitemediumstar",
        "snowman": "snowmanwithoutsnow",
        "car": "automobile",
        "firetruck": "fireengine",
        "gift": "present",
        "key": "oldkey",
        "scissors": "blackscissors",
        "book": "greenbook",
        "clock": "alarmclock",
        "house": "housebuilding",
        "coffee": "hotbeverage",
        "heart": "redheart",
        "pumpkin": "jackolantern",
    },
}

# Drawings that are framed pictures rather than objects, or show another thing than the caption would say.
UNUSED = {"fxemoji": {"rainbow", "sailboat", "umbrella", "shirt"}, "streamline": {"rainbow", "leaf"}}


def _icon_name(icons: dict[str, Any], shared: dict[str, str], designer: str, one: SceneClass) -> str | None:
    """The name of a class in one set: an override, else the common name of its code point, else the class name."""
    if one.name in UNUSED.get(designer, set()):
        return None
    code = f"{one.codepoint:x}"
    common = shared.get(code) or shared.get(f"{code}-fe0f") or one.name
    candidates = [RENAMED.get(designer, {}).get(one.name), common, f"{common}-1", common.replace("-", ""), one.name]
    candidates.append(common.removesuffix("-face"))
    known = {**icons["icons"], **icons.get("aliases", {})}
    return next((name for name in candidates if name in known), None)


def _svg(icons: dict[str, Any], name: str) -> str:
    while name in icons.get("aliases", {}):
        name = icons["aliases"][name]["parent"]
    icon = icons["icons"][name]
    left, top = icon.get("left", icons.get("left", 0)), icon.get("top", icons.get("top", 0))
    width, height = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
    box = f"{left} {top} {width} {height}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}"'
    return f'{head} width="{RASTER}" height="{RASTER}">{icon["body"]}</svg>'


def _sprite(svg: str) -> Image.Image:
    """One drawing as a (48, 48) RGBA image, cropped to its visible part and centred."""
    resvg = import_module("resvg_py")  # a tool of the maintainer, not a dependency
    large = Image.open(io.BytesIO(bytes(resvg.svg_to_bytes(svg_string=svg)))).convert("RGBA")
    visible = large.getchannel("A").point(lambda alpha: 255 if alpha > 24 else 0).getbbox()
    if visible is None:
        raise ValueError("the drawing is empty")
    cropped = large.crop(visible)
    scale = SPRITE / max(cropped.size)
    size = (max(1, round(cropped.width * scale)), max(1, round(cropped.height * scale)))
    canvas = Image.new("RGBA", (SPRITE, SPRITE))
    canvas.paste(cropped.resize(size, Image.Resampling.LANCZOS), ((SPRITE - size[0]) // 2, (SPRITE - size[1]) // 2))
    return canvas


def build(packages: Path, out: Path) -> None:
    """Write one lossless sheet per designer to `out`, from a folder of npm packages."""
    shared = json.loads((packages / "@iconify-json" / "twemoji" / "chars.json").read_text())
    for designer, package in PACKAGES.items():
        icons = json.loads((packages / "@iconify-json" / package / "icons.json").read_text())
        rows = -(-len(CLASSES) // SHEET_COLUMNS)
        sheet = Image.new("RGBA", (SHEET_COLUMNS * SPRITE, rows * SPRITE))
        absent = []
        for index, one in enumerate(CLASSES):
            name = _icon_name(icons, shared, designer, one)
            if name is None:
                absent.append(one.name)
                continue
            sheet.paste(_sprite(_svg(icons, name)), (index % SHEET_COLUMNS * SPRITE, index // SHEET_COLUMNS * SPRITE))
        pixels = np.array(sheet)
        pixels[pixels[..., 3] == 0] = 0
        Image.fromarray(pixels).save(out / f"{designer}.webp", lossless=True, quality=100, method=6, exact=True)
        print(f"{designer}: {len(CLASSES) - len(absent)} drawn, absent: {', '.join(absent) or 'none'}")


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(__file__).parent / "artwork")
