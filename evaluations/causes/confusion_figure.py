"""The confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

CELL, LEFT, TOP, MARGIN = (92, 52), 150, 84, 16
INK, GRID, RIGHT, WRONG = (30, 34, 40), (214, 218, 224), (38, 120, 178), (200, 84, 60)
PAPER = (255, 255, 255)


def draw(counts: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """A row for each cause of a fault, a column for who was blamed: counts, coloured by their share of the row."""
    columns = list(next(iter(counts.values()), {}))
    width, height = LEFT + CELL[0] * len(columns) + MARGIN, TOP + CELL[1] * len(counts) + MARGIN
    picture = Image.new("RGB", (width, height), PAPER)
    pen, font, bold = ImageDraw.Draw(picture), ImageFont.load_default(15), ImageFont.load_default(19)
    pen.text((MARGIN, 14), "injected", INK, font, anchor="lt")
    pen.text((LEFT + CELL[0] * len(columns) // 2, 14), "blamed", INK, font, anchor="mt")
    for x, name in enumerate(columns):
        pen.text((LEFT + CELL[0] * x + CELL[0] // 2, TOP - 10), name, INK, font, anchor="ms")
    for y, (cause, row) in enumerate(counts.items()):
        top, total = TOP + CELL[1] * y, sum(row.values())
        pen.text((LEFT - 12, top + CELL[1] // 2), f"{cause} ({total})", INK, font, anchor="rm")
        for x, name in enumerate(columns):
            left, share = LEFT + CELL[0] * x, row[name] / max(total, 1)
            fill = _mixed(PAPER, RIGHT if name == cause else WRONG, share)
            pen.rectangle((left, top, left + CELL[0], top + CELL[1]), fill, GRID)
            if row[name]:
                ink = PAPER if share > 0.5 else INK
                pen.text((left + CELL[0] // 2, top + CELL[1] // 2), str(row[name]), ink, bold, anchor="mm")
    picture.save(path, optimize=True)


def _mixed(a: tuple[int, int, int], b: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    r, g, blue = (round((1 - share) * x + share * y) for x, y in zip(a, b, strict=True))
    return r, g, blue
