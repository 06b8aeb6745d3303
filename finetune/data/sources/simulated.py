"""The simulated cell's rendered pictures (robot/sim/dataset.py) with their true masks, as rows of the annotation.

The rows are those of `rendered`, with the whole thing's mask and box and with a group: pictures of one shard show the
same things.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from affordagent.finetune.data import rendered
from affordagent.finetune.data.rle import encode_rle
from affordagent.finetune.data.schema import Rejected, Sample
from affordagent.finetune.data.sources.found import Found, Take, attempt, box_json, provenance
from affordagent.finetune.mini_data import Row, list_rows, object_mask

LICENCE = "MIT"
URL = "affordagent, robot/sim/dataset.py"


def rows(folder: Path, take: Take) -> Iterator[Found]:
    """A row for each question about each picture.

    Raises:
        AffordAgentError: no rendered folder.
    """
    pictures = {row.record["id"]: row for row in list_rows(folder.absolute())}
    shards = _shards(folder)
    before, number = "", 0
    for entry in rendered.entries(folder, take.seed):
        name = entry.where.rpartition(", ")[2]
        number, before = (number + 1 if name == before else 0), name
        source_id = f"{name}/{number}"
        if entry.sample is None:
            yield Rejected(source_id, entry.problem)
        else:
            yield attempt(source_id, _row, entry.sample, pictures[name], shards[name], source_id)


def _shards(folder: Path) -> dict[str, str]:
    """Picture -> the name of its shard."""
    out: dict[str, str] = {}
    for shard in sorted(folder.glob("shard_*.jsonl")):
        lines = shard.read_text(encoding="utf-8").splitlines(keepends=True)
        out |= {json.loads(line)["id"]: shard.stem for line in lines if line.endswith("\n")}
    return out


def _row(sample: Sample, row: Row, shard: str, source_id: str) -> Sample:
    name = row.record["id"]
    known = replace(
        sample,
        source_id=source_id,
        group=f"{sample.source}/{row.record['split']}/{row.record['seed']}/{shard}",
        licence=LICENCE,
        provenance=provenance(url=URL, picture=name, seed=row.record["seed"]),
        tool="original",
        tool_reason="rendered: the truth",
        confidence=1.0,
    )
    if sample.mask_label is None:
        return known
    thing = next(t for t in row.record["objects"] if t["slot"] == sample.mask_label // 8)
    x0, y0, x1, y1 = thing["box"]
    return replace(
        known,
        part=thing["part"],
        box=box_json(x0, y0, x1, y1),
        object_rle=encode_rle(object_mask(row.labels(), thing["slot"])),
    )
