"""Queries of the mini on rendered pictures, timed by step, and the memory they take; prints one JSON object.

    python -m affordagent.evaluations.bench_query --data DIR [--checkpoint DIR] [--queries N]

`evaluations.bench` runs it in a process of its own, so that the peak of the memory is that of the queries alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.evaluations.masks import frame_of, query_of, spread, targets
from affordagent.finetune.mini_data import list_rows
from affordagent.finetune.mini_texts import STYLES, TextPool
from affordagent.tools.affordance_vlm import SHIPPED_CHECKPOINT, AffordanceTool
from affordagent.tools.table import find_objects

WARM_UP = 2  # queries that are not counted
GROUNDING = ("find objects", "look", "pick", "part")


@contextmanager
def cpu_s(times: list[float]) -> Iterator[None]:
    """Note the CPU time of what is done."""
    started = time.process_time()
    try:
        yield
    finally:
        times.append(time.process_time() - started)


def peak_mb() -> float:
    """Largest resident set of this program so far. (Linux counts the parent's into getrusage's: fork, then exec.)"""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def measure(data: Path, checkpoint: Path, queries: int, seed: int = 0) -> dict[str, Any]:
    """CPU seconds of each query by step, number of proposals, peak memory after loading and at the end.

    Texts are of all three styles, drawn from those of training: nothing is judged here.

    Raises:
        AffordAgentError: the set has too few pictures.
    """
    torch.set_num_threads(1)
    rows = [row for row in list_rows(data) if targets(row)]
    if len(rows) < queries + WARM_UP:
        raise AffordAgentError(f"{data} has {len(rows)} pictures to ask about; {queries + WARM_UP} are needed")
    pool = TextPool()
    tool = AffordanceTool(checkpoint)
    loading: list[float] = []
    with cpu_s(loading):
        tool.load()
    query_of("the mug")  # loads the language stage
    loaded_mb = peak_mb()
    times: dict[str, list[float]] = {step: [] for step in ("understand", *GROUNDING)}
    proposals = []
    for number, row in enumerate(spread(rows, queries + WARM_UP)):
        rng = np.random.default_rng([seed, number])
        thing = targets(row)[0].thing
        text = pool.draw(rng, thing["category"], thing["colour"], thing["part"]).words
        frame = frame_of(row, True, rng)
        with cpu_s(times["understand"]):
            query = query_of(text)
        with cpu_s(times["find objects"]):
            scene = find_objects(frame)
        with cpu_s(times["look"]):
            look = tool.look(frame, scene)
        with cpu_s(times["pick"]):
            ranking = tool.rank(look, query)
        with cpu_s(times["part"]), suppress(StageFailure):  # "no such part in view" is an answer and takes its time
            tool.part(look, query, ranking, int(ranking.share.argmax()))
        proposals.append(len(scene.proposals))
    counted = {step: seconds[WARM_UP:] for step, seconds in times.items()}
    return {
        "queries": queries,
        "styles": STYLES,
        "loading_cpu_s": loading[0],
        "cpu_s": {step: [round(s, 4) for s in seconds] for step, seconds in counted.items()},
        "grounding_cpu_s": [round(sum(one), 4) for one in zip(*(counted[step] for step in GROUNDING), strict=True)],
        "proposals": proposals[WARM_UP:],
        "peak_mb_loaded": round(loaded_mb, 1),
        "peak_mb": round(peak_mb(), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="rendered set")
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED_CHECKPOINT)
    parser.add_argument("--queries", type=int, default=20)
    given = parser.parse_args()
    print(json.dumps(measure(given.data, given.checkpoint, given.queries)))


if __name__ == "__main__":
    main()
