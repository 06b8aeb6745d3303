"""What an evaluation of segmentation asks of which model, and the folder it is kept in."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import write_json
from affordagent.evaluations.segmenters import PRESENT_ABOVE, Generation, identity_of
from affordagent.evaluations.suites import samples_of_suite
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.table import read_samples

TASK, ROWS = "task.json", "rows.jsonl"
NAMED = 5  # missing files that an error message lists


@dataclass(frozen=True)
class Model:
    """Which model is asked, and how: see `segmenters.open_segmenter`."""

    vlm: str = "mini"
    vision_tower: Path | None = None
    present_above: float = PRESENT_ABOVE


@dataclass(frozen=True)
class Task:
    """data: name of the file or suite. folder: what the record's image names are relative to. rows: (place in the data,
    row) of those asked. digest: of the whole data. skipped: how many rows were left out, by reason."""

    data: str
    folder: Path
    rows: list[tuple[int, Sample]]
    digest: str
    model: Model
    generations: tuple[Generation, ...] = ("free",)
    suite: str | None = None
    seed: int = 0
    skipped: dict[str, int] = field(default_factory=dict)

    def fingerprint(self) -> dict[str, Any]:
        """What all rows of one folder agree on; the choice of rows and of generations may grow from run to run."""
        model = self.model
        tower = model.vision_tower and str(model.vision_tower)
        return {
            "data": self.data,
            "data_digest": self.digest,
            "vlm": model.vlm,
            "vision_tower": tower,
            "model": identity_of(model.vlm),
            "present_above": model.present_above,
        }


def task_of_file(file: Path, model: Model, generations: tuple[Generation, ...] = ("free",), seed: int = 0) -> Task:
    """The rows of a Parquet or CSV file (see `finetune.data.schema`).

    Raises:
        AffordAgentError: the file cannot be read, or no row of it asks for a mask.
    """
    return _task(str(file), Path(os.path.abspath(file.parent)), read_samples(file), model, generations, seed)


def task_of_suite(
    name: str, root: Path, model: Model, generations: tuple[Generation, ...] = ("free",), seed: int = 0
) -> Task:
    """A published split, from the folder of the published data.

    Raises:
        AffordAgentError: no such suite, or its data is not there.
    """
    folder = Path(os.path.abspath(root))
    return replace(_task(name, folder, samples_of_suite(name, root), model, generations, seed), suite=name)


def _task(
    data: str, folder: Path, samples: list[Sample], model: Model, generations: tuple[Generation, ...], seed: int
) -> Task:
    """Without the rows that ask for no mask."""
    rows = [(index, sample) for index, sample in enumerate(samples) if sample.kind != "vqa"]
    if not rows:
        raise AffordAgentError(f"{data}: all {len(samples)} rows are of the kind vqa, which has no masks")
    digest = sha256()
    for sample in samples:
        digest.update(json.dumps(asdict(sample)).encode())
    dropped = len(samples) - len(rows)
    skipped = {"no mask asked for (vqa)": dropped} if dropped else {}
    return Task(data, folder, rows, digest.hexdigest(), model, generations, seed=seed, skipped=skipped)


def limited(task: Task, limit: int) -> Task:
    """At most `limit` rows, evenly spread, since neighbours in a set are often alike."""
    if limit < 1:
        raise AffordAgentError(f"--limit {limit}: at least 1 row is needed")
    chosen = np.unique(np.linspace(0, len(task.rows) - 1, min(limit, len(task.rows))).round().astype(int))
    return replace(task, rows=[task.rows[i] for i in chosen])


def without_missing(task: Task, skip: bool) -> Task:
    """The task once all its files are there; with `skip`, without the rows whose files are not.

    Raises:
        AffordAgentError: files are missing; lists the first.
    """
    missing = [(index, path) for index, sample in task.rows for path in _files(sample) if not os.path.isfile(path)]
    if not missing:
        return task
    lacking = {index for index, _ in missing}
    listed = "".join(f"\n  row {index}: {path}" for index, path in missing[:NAMED])
    if not skip or len(lacking) == len(task.rows):
        raise AffordAgentError(
            f"{task.data}: files of {len(lacking)} of {len(task.rows)} rows are missing; paths are relative to the "
            f"file's folder, and --skip-missing leaves such rows out. The first:{listed}"
        )
    rows = [row for row in task.rows if row[0] not in lacking]
    return replace(task, rows=rows, skipped={**task.skipped, "file missing": len(lacking)})


def _files(sample: Sample) -> list[str]:
    return [path for path in (sample.image, sample.mask, sample.depth) if path is not None]


def claim(task: Task, out: Path) -> list[dict[str, Any]]:
    """Make `out` the folder of the task and return the rows that are already there.

    Raises:
        AffordAgentError: the folder holds rows of another task, or cannot be written.
    """
    mine = task.fingerprint()
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not (out / TASK).is_file():
            write_json(out / TASK, mine)
        theirs = json.loads((out / TASK).read_text())
        text = (out / ROWS).read_text() if (out / ROWS).is_file() else ""
    except (OSError, ValueError) as error:
        raise AffordAgentError(f"cannot use {out} for the results: {error}; choose another --out") from error
    differing = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
    if differing:
        facts = ", ".join(f"{key} was {theirs.get(key)}, is {mine.get(key)}" for key in differing)
        raise AffordAgentError(f"{out} holds the results of another evaluation ({facts}): choose another --out")
    complete = text[: text.rfind("\n") + 1]
    if len(complete) < len(text):  # a line that was being written when the run was stopped
        (out / ROWS).write_text(complete)
    return [json.loads(line) for line in complete.splitlines()]
