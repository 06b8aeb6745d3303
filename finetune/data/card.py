"""The data card of a set: what is in it, where it comes from and whether its splits leak, on one self-contained page.

After Gebru et al., "Datasheets for datasets" (2021), as far as the rows themselves can tell.
"""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask
from affordagent.finetune.data.duplicates import leaks
from affordagent.finetune.data.importing import read_rejects, rejects_of
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.summary import summarize
from affordagent.finetune.data.table import load_image, load_mask

COUNTED = ("source", "split", "kind", "tool", "status", "licence", "part", "category", "failure")
SIZES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # edges of the shares of the picture that masks take
GRID = (12, 9)  # columns, rows of the map of where masks lie
THUMBNAIL_PX = 200
MASK_RGB = np.array([255, 90, 0])
SHOWN_LEAKS = 20


@dataclass(frozen=True)
class Masks:
    """Of the rows whose masks were opened. sizes: how many within SIZES; where: (rows, columns) of GRID, how many have
    their middle there; unreadable: source ids, with the reason."""

    opened: int
    sizes: tuple[int, ...]
    where: NDArray[np.int64]
    unreadable: tuple[tuple[str, str], ...]


def write_card(
    rows: Sequence[Sample], source: Path, out: Path, *, looked_at: int = 2000, examples: int = 24, seed: int = 0
) -> Path:
    """Write the page about the rows of the file `source`, and return its path.

    looked_at: how many masks are opened for the histograms, drawn by `seed`. examples: pictures that are shown. What an
    import rejected is counted from its file next to `source`, if there is one.

    Raises:
        AffordAgentError: no rows.
    """
    if not rows:
        raise AffordAgentError(f"{source} has no rows: there is nothing to tell of it")
    rng = np.random.default_rng(seed)
    masked = [row for row in rows if row.mask is not None or row.mask_rle is not None]
    drawn = [masked[i] for i in sorted(rng.permutation(len(masked))[:looked_at])]
    masks = measure(drawn)
    rejected = read_rejects(source) if rejects_of(source).is_file() else []
    page = _template().render(
        name=source.name,
        rows=rows,
        summary=summarize(rows),
        counts={column: _counts(rows, column) for column in COUNTED},
        masked=len(masked),
        masks=masks,
        sizes=[(f"{low:.1%} to {high:.1%}", n) for low, high, n in zip(SIZES, SIZES[1:], masks.sizes, strict=False)],
        most_sizes=max([*masks.sizes, 1]),
        where=masks.where.tolist(),
        most_where=max(int(masks.where.max()), 1),
        pictures=[shown for row in _examples(drawn, examples, rng) if (shown := _shown(row)) is not None],
        leaks=leaks(rows),
        hashed=sum(row.sha256 is not None for row in rows),
        shown_leaks=SHOWN_LEAKS,
        rejected=Counter(one.reason.split(":")[0][:80] for one in rejected).most_common(),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(out.name + ".part")
    draft.write_text(page, encoding="utf-8")
    os.replace(draft, out)
    return out


def _counts(rows: Iterable[Sample], column: str) -> list[tuple[str, int]]:
    return [(name or "not said", n) for name, n in Counter(getattr(row, column) for row in rows).most_common()]


def measure(rows: Iterable[Sample]) -> Masks:
    """Open the masks of rows that have one."""
    sizes, where, bad, opened = np.zeros(len(SIZES) - 1, int), np.zeros((GRID[1], GRID[0]), int), [], 0
    for row in rows:
        try:
            mask = load_mask(row, load_image(row).shape)
        except AffordAgentError as error:
            bad.append((row.source_id or row.image, str(error)))
            continue
        opened += 1
        sizes[min(int(np.searchsorted(SIZES, mask.mean(), side="right")) - 1, len(sizes) - 1)] += 1
        if mask.any():
            y, x = (float(np.mean(axis)) for axis in np.nonzero(mask))
            where[int(y * GRID[1] / mask.shape[0]), int(x * GRID[0] / mask.shape[1])] += 1
    return Masks(opened, tuple(int(n) for n in sizes), where, tuple(bad))


def _examples(rows: list[Sample], count: int, rng: np.random.Generator) -> list[Sample]:
    """Of each source and tool in turn, so that the rare ones are seen."""
    piles: dict[tuple[str, str | None], list[Sample]] = {}
    for i in rng.permutation(len(rows)):
        piles.setdefault((rows[i].source, rows[i].tool), []).append(rows[i])
    chosen: list[Sample] = []
    while len(chosen) < count and any(piles.values()):
        chosen += [pile.pop() for pile in piles.values() if pile]
    return chosen[:count]


def _shown(row: Sample) -> dict[str, Any] | None:
    """A thumbnail with its mask painted in; None where the file cannot be read, which the card tells elsewhere."""
    try:
        picture = load_image(row)
        mask = load_mask(row, picture.shape)
    except AffordAgentError:
        return None
    code = base64.b64encode(thumbnail(picture, mask)).decode()
    about = [row.category, row.part, row.source, row.tool, row.kind]
    return {"data": code, "text": row.text, "about": ", ".join(word for word in about if word)}


def thumbnail(picture: NDArray[np.uint8], mask: Mask, longest_px: int = THUMBNAIL_PX) -> bytes:
    """A small JPEG of the (H, W, 3) RGB picture with the (H, W) bool mask painted in."""
    scale = min(1.0, longest_px / max(picture.shape[:2]))
    painted = picture.copy()
    painted[mask] = (0.5 * picture[mask] + 0.5 * MASK_RGB).astype(np.uint8)
    small = cv2.resize(painted, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])[1])


def _template() -> jinja2.Template:
    text = (resources.files("affordagent.finetune") / "data" / "card.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text)
