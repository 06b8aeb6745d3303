"""gIoU and cIoU of a model on rows of affordance data: `affordagent eval segmentation`.

Free generation (the model writes its own answer) and teacher forcing (the reference answer is given, as the published
figures are made) are scored apart. Rows are kept as they come, so a broken run goes on where it stopped:

    OUT/task.json     what is measured; another task is refused in the same folder
    OUT/rows.jsonl    a line a row and generation, with the predicted mask
    OUT/summary.json  what --json prints
    OUT/report.html   figures and worst cases
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from affordagent.core.errors import AffordAgentError
from affordagent.core.overlap import Overlap, overlap
from affordagent.evaluations.segmentation_metric import figures
from affordagent.evaluations.segmentation_task import ROWS, Model, Task, claim
from affordagent.evaluations.segmenters import Generation, Segmenter, open_segmenter
from affordagent.evaluations.statistics import rate
from affordagent.evaluations.suites import SUITES
from affordagent.finetune.data.rle import encode_rle
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.table import load_ignored, load_image, load_mask
from affordagent.tools.vlm import kind_of

SUMMARY = "summary.json"
OTHER = "(none)"  # rows without a category
Job = tuple[Model, str, int, Sample, Generation]


@dataclass(frozen=True)
class Scored:
    """A line of rows.jsonl. negative: nothing was to be found; answered: a mask came. said: the model's words.
    seconds, cpu_s: of the query alone, the picture being read before. rss_gb: most memory of the process so far.
    prediction: COCO run lengths as JSON."""

    index: int
    generation: Generation
    image: str
    text: str
    category: str | None
    kind: str
    iou: float
    intersection: int
    union: int
    confidence: float
    negative: bool
    answered: bool
    seconds: float
    cpu_s: float
    rss_gb: float | None
    said: str
    evidence: dict[str, Any]
    prediction: str

    def as_json(self) -> dict[str, Any]:
        """The row as `--json` prints it: without the mask."""
        return {name: value for name, value in asdict(self).items() if name != "prediction"}


def evaluate(
    task: Task,
    out: Path | None = None,
    workers: int | None = None,
    on_row: Callable[[int, int], None] = lambda done, total: None,
) -> list[Scored]:
    """Ask for every row in every generation, going on with what `out` already holds; in the order of the data.

    workers: processes, each with its own model; default one a GPU for a checkpoint, else one. on_row(done, total) is
    called with every new row.

    Raises:
        AffordAgentError: `out` belongs to another task; a row's files are broken; the model cannot be asked.
    """
    kept = [] if out is None else [Scored(**row) for row in claim(task, out)]
    done = {(row.index, row.generation): row for row in kept}
    # Row by row, not generation by generation: a published model keeps what it saw of its last picture.
    wanted = [(index, sample, g) for index, sample in task.rows for g in task.generations]
    pending: list[Job] = [
        (task.model, str(task.folder), index, sample, g) for index, sample, g in wanted if (index, g) not in done
    ]
    finished = len(wanted) - len(pending)
    with ExitStack() as stack:
        log = None if out is None else stack.enter_context((out / ROWS).open("a"))
        for row in _ask(pending, worker_count(task.model, workers, len(pending)), stack):
            done[row.index, row.generation] = row
            finished += 1
            if log is not None:
                log.write(json.dumps(asdict(row)) + "\n")
                log.flush()
            on_row(finished, len(wanted))
    return [done[index, g] for index, _, g in wanted]


def worker_count(model: Model, workers: int | None, pending: int) -> int:
    """Raises AffordAgentError for fewer than one."""
    if workers is not None and workers < 1:
        raise AffordAgentError(f"--workers {workers}: at least 1 is needed")
    if workers is None:
        workers = len(_gpus()) if kind_of(model.vlm) == "published" else 1
    return max(1, min(workers, pending))


def _gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES names them."""
    import torch

    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return allowed.split(",") if allowed else [str(i) for i in range(torch.cuda.device_count())]


def _ask(jobs: list[Job], workers: int, stack: ExitStack) -> Iterator[Scored]:
    if workers == 1:
        return map(_score, jobs)
    context = multiprocessing.get_context("spawn")
    gpus, names = _gpus(), context.Queue()
    for number in range(workers):
        names.put(gpus[number % len(gpus)] if gpus else "")
    pool = ProcessPoolExecutor(workers, context, _see_one_gpu, (names,))
    stack.callback(pool.shutdown, cancel_futures=True)
    return pool.map(_score, jobs, chunksize=2)


def _see_one_gpu(names: multiprocessing.Queue[str]) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = names.get()


@cache
def _opened(model: Model) -> Segmenter:
    return open_segmenter(model.vlm, model.vision_tower, model.present_above)


def _score(job: Job) -> Scored:
    model, folder, index, sample, generation = job
    segmenter = _opened(model)
    try:
        image = load_image(sample)
        truth, ignored = load_mask(sample, image.shape), load_ignored(sample, image.shape)
        wall, cpu = time.perf_counter(), time.process_time()
        found = segmenter.segment_row(sample, image, generation)
        seconds, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    except AffordAgentError as error:
        raise AffordAgentError(f"row {index} ({sample.text!r}): {error}") from error
    common = overlap(found.mask, truth, ignored)
    return Scored(
        index=index,
        generation=generation,
        image=os.path.relpath(sample.image, folder) if sample.image.startswith(folder + os.sep) else sample.image,
        text=sample.text,
        category=sample.category,
        kind=sample.kind,
        iou=common.iou,
        intersection=common.intersection,
        union=common.union,
        confidence=round(found.confidence, 4),
        negative=not truth.any(),
        answered=bool(found.mask.any()),
        seconds=round(seconds, 4),
        cpu_s=round(cpu_s, 4),
        rss_gb=_peak_rss_gb(),
        said=found.text,
        evidence=found.evidence,
        prediction=encode_rle(found.mask),
    )


def _peak_rss_gb() -> float | None:
    """Most memory this process had resident: Linux's VmHWM, which is not inherited from the parent; None elsewhere."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return round(int(line.split()[1]) * 1024 / 1e9, 3)


def summary(task: Task, rows: Sequence[Scored]) -> dict[str, Any]:
    """What `--json` prints: the figures of free generation on top, those of teacher forcing under `teacher_forced` when
    both were asked for; `generation` says which are on top."""
    from affordagent.agent.session import versions

    first, *others = task.generations
    by_generation = {g: _figures([row for row in rows if row.generation == g], task.seed) for g in task.generations}
    out: dict[str, Any] = {
        **task.fingerprint(),
        "suite": task.suite,
        "skipped": task.skipped,
        "generation": first,
        **by_generation[first],
        **{g.replace("-", "_"): by_generation[g] for g in others},
        "seed": task.seed,
        "versions": versions(),
    }
    if task.suite is not None:
        suite = SUITES[task.suite]
        giou, ciou = suite.published_giou, suite.published_ciou
        out["published"] = {"generation": "teacher-forced", "giou": giou, "ciou": ciou}
    return out


def _figures(rows: list[Scored], seed: int) -> dict[str, Any]:
    """Figures, the same by kind and category, the rates of refusals, the costs and the rows themselves."""
    kinds, categories = defaultdict(list), defaultdict(list)
    for row in rows:
        kinds[row.kind].append(row)
        categories[row.category or OTHER].append(row)
    positives = [row for row in rows if not row.negative]
    negatives = [row for row in rows if row.negative]
    peaks = [row.rss_gb for row in rows if row.rss_gb is not None]
    return {
        **_group(rows, seed),
        "per_kind": {kind: _group(group, seed) for kind, group in sorted(kinds.items())},
        "per_category": {name: _group(group, seed) for name, group in sorted(categories.items())},
        "present": _group(positives, seed) if positives else None,
        "false_refusals": rate(sum(not row.answered for row in positives), len(positives)) if positives else None,
        "absent_detected": rate(sum(not row.answered for row in negatives), len(negatives)) if negatives else None,
        "seconds_per_query": median(row.seconds for row in rows),
        "cpu_s_per_query": median(row.cpu_s for row in rows),
        "peak_rss_gb": max(peaks, default=None),
        "rows": [row.as_json() for row in rows],
    }


def _group(rows: list[Scored], seed: int) -> dict[str, Any]:
    return figures([Overlap(row.intersection, row.union) for row in rows], seed)
