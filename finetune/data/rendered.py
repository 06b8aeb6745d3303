"""Rendered scenes (the folders of robot/sim/dataset.py) as rows of the one schema.

Each thing of a picture whose part is seen is asked for by name, by purpose with the name, and by purpose alone; some
questions ask for a thing that is not there. Texts come from the phrases of training for the split "train", of
development for "val", and of testing for all others. A picture's texts depend on its id and the seed alone.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import numpy as np

from affordagent.core.catalogue import catalogue
from affordagent.core.errors import AffordAgentError
from affordagent.core.lexicon import lexicon
from affordagent.finetune.data.entries import DataSet, Entry
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.mini_data import DEPTH_UNIT_M, Row, list_rows
from affordagent.finetune.mini_texts import STYLES
from affordagent.finetune.phrases import Split, Style, phrases, sample_text

MIN_PART_PX = 30
NEGATIVES = 1  # questions a picture about things that are not there
SOURCES = {"train": "rendered", "val": "rendered", "test": "rendered", "novel": "rendered_novel"}


def entries(folder: Path, seed: int, negatives: int = NEGATIVES) -> Iterator[Entry]:
    """The rows of a rendered folder: three for each thing that can be told from the others, and `negatives` a picture.

    Raises:
        AffordAgentError: the folder holds no rendered pictures.
    """
    rows = list_rows(folder.absolute())
    if not rows:
        raise AffordAgentError(f"{folder} holds no shard_*.jsonl of a rendered set")
    for row in rows:
        rng = np.random.default_rng([seed, zlib.crc32(row.record["id"].encode())])
        for sample in chain(_positives(row, rng), _negatives(row, negatives, rng)):
            yield Entry(f"{folder.name}, {row.record['id']}", sample)


def _positives(row: Row, rng: np.random.Generator) -> Iterator[Sample]:
    split = _text_split(row)
    for thing in row.visible():
        alike = [t for t in row.record["objects"] if t["category"] == thing["category"] and t is not thing]
        if thing["part_px"] < MIN_PART_PX or any(t["colour"] == thing["colour"] for t in alike):
            continue  # nothing to see, or no words tell the two apart
        label = thing["slot"] * 8 + thing["part_index"]
        others = {t["category"] for t in row.record["objects"]} - {thing["category"]}
        for style in _styles(thing["category"], split):
            text = sample_text(
                rng, thing["category"], thing["colour"], thing["part"], bool(alike), split, style, others
            )
            yield _sample(row, text, thing["category"], style, str(row.path("labels.png")), label)


def _negatives(row: Row, count: int, rng: np.random.Generator) -> Iterator[Sample]:
    split = _text_split(row)
    present = {thing["category"] for thing in row.record["objects"]}
    absent = [c for c in phrases()[split] if not any(_related(c, other) for other in present)]
    for category in rng.choice(absent, min(count, len(absent)), replace=False).tolist():
        styles = _styles(category, split)
        style = styles[int(rng.integers(len(styles)))]
        known = catalogue().get(category)
        text = sample_text(rng, category, "red", known.part if known else None, False, split, style, present)
        yield _sample(row, text, category, style, None, None)


def _sample(row: Row, text: str, category: str, style: Style, mask: str | None, label: int | None) -> Sample:
    split = row.record["split"]
    return Sample(
        image=str(row.path("color.jpg")),
        text=text,
        mask=mask,
        mask_label=label,
        category=category,
        kind=style,
        source=SOURCES[split],
        split="test" if split == "novel" else split,
        depth=str(row.path("depth.png")),
        depth_unit_m=DEPTH_UNIT_M,
        camera=json.dumps(asdict(row.camera)),
    )


def _text_split(row: Row) -> Split:
    splits: dict[str, Split] = {"train": "train", "val": "dev"}
    return splits.get(row.record["split"], "test")


def _styles(category: str, split: Split) -> tuple[Style, ...]:
    """By name alone where nobody has written what the thing is for."""
    return STYLES if category in phrases()[split] else ("template",)


def _related(one: str, other: str) -> bool:
    """The same category, or two that share a word people use for both (pliers, wrench, cup)."""
    return one == other or bool(_words(one) & _words(other))


def _words(category: str) -> set[str]:
    known, thing = catalogue().get(category), lexicon().get(category)
    return {
        category,
        *(known.names if known else ()),
        *(known.generic if known else ()),
        *(thing.names if thing else ()),
    }


SETS = (DataSet("rendered", "shard_0000.jsonl", entries),)
