"""How fast is it here? Both sides of every ratio, measured in one run on one thread, in CPU seconds.

    python -m affordagent.evaluations.bench --out bench.json [--full] [--data DIR] [--vlm DIR] [--only NAME ...]

Renders a small set of pictures unless `--data` gives one. `--vlm` is a checkpoint in the published format: its training
loader is measured with its tokenizer (any size will do, the loader never sees the weights). Grasps, plans and episodes
are measured on a few development scenes; `--full` takes those of the report and as many as the promises ask for.
"""

from __future__ import annotations

import argparse
import json
import pickle
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from affordagent.core.errors import AffordAgentError
from affordagent.evaluations.bench_grasping import GRASPING_BENCHES
from affordagent.evaluations.bench_overhead import overhead
from affordagent.evaluations.bench_query import GROUNDING
from affordagent.evaluations.figures import Bench, Figure
from affordagent.finetune.mini_data import list_rows, sample_batch
from affordagent.finetune.mini_train import Trainer, collate, sample_bank, step_loss
from affordagent.tools.affordance_vlm import SHIPPED_CHECKPOINT

SEED = 0
PICTURES = 40
PARQUET_ROWS = 50_000
MB = 2**20
# What a GPU can ask of the loader of the 7B model at the very most. Forward and backward through the Llama's frozen
# weights take 4 x 7e9 FLOP a token, with some 500 tokens a sample; CLIP's and SAM's frozen encoders about 6e12: 2e13 in
# all. An A100 does 312e12 a second in bf16 at its peak, so it trains on fewer than 16 samples a second.
SAMPLES_PER_GPU_S = 16.0


def mini_training(bench: Bench) -> list[Figure]:
    """The mini's crops against its training step, taking turns, at each crop size of its training."""
    rows = list_rows(bench.data)
    figures = []
    for _, size in bench.config.sizes:
        config = replace(bench.config, sizes=((0.0, size),))
        trainer = Trainer(config, bench.scratch)
        loading: list[float] = []
        stepping: list[float] = []
        for step in range(bench.repeats + 1):
            started = time.process_time()
            crops = sample_batch(trainer.sampler, rows, config.crops, size, SEED, step)
            loaded = time.process_time()
            bank = sample_bank(trainer.texts, crops, config.texts, np.random.default_rng([SEED, step]))
            batch = collate(crops, bank)
            trainer.net.train()
            step_loss(trainer.net, batch)  # once before the clock runs, so that the texts are known, as they soon are
            trainer.net.zero_grad(set_to_none=True)
            begun = time.process_time()
            step_loss(trainer.net, batch)[0].backward()
            loading.append(loaded - started)
            stepping.append(time.process_time() - begun)
        load = config.crops / float(np.median(loading[1:]))  # the first batch warms caches
        train = config.crops / float(np.median(stepping[1:]))
        parts = {
            "loader_samples_per_cpu_s": load,
            "step_samples_per_cpu_s": train,
            "crops": config.crops,
            "loader_cpu_s": loading[1:],
            "step_cpu_s": stepping[1:],
        }
        figures.append(Figure(f"mini training, {size} px: loader / step", load / train, "x", least=1.0, parts=parts))
    return figures


def published_loader(bench: Bench) -> list[Figure]:
    """Samples a CPU second of the published model's training loader: pictures for CLIP and SAM, masks, tokens."""
    if bench.vlm is None:
        print("no --vlm: the published model's loader is left out")
        return []
    from affordagent.finetune.data.rendered import entries
    from affordagent.finetune.vlm.collate import TrainingExamples
    from affordagent.finetune.vlm.collate import collate as collate_vlm
    from affordagent.finetune.vlm.config import PUBLISHED
    from affordagent.finetune.vlm.mixture import Mixture
    from affordagent.finetune.vlm.tokens import Tokens

    samples = [entry.sample for entry in entries(bench.data, SEED) if entry.sample is not None]
    mixture = Mixture(samples, PUBLISHED.group_rates, PUBLISHED.set_rates, seed=SEED, questions=PUBLISHED.questions)
    tokens = Tokens.load(bench.vlm)
    examples = TrainingExamples(mixture, tokens, PUBLISHED.max_length)
    seconds = []
    for k in range(bench.repeats + 1):
        started = time.process_time()
        collate_vlm([examples[k]], tokens.unk)
        seconds.append(time.process_time() - started)
    rate = 1 / float(np.median(seconds[1:]))
    parts = {"cpu_s": seconds[1:], "most_samples_per_gpu_s": SAMPLES_PER_GPU_S}
    workers = SAMPLES_PER_GPU_S / rate
    return [
        Figure("published model's training loader", rate, "samples/CPU-s", parts=parts),
        Figure("loader processes a GPU needs at the very most", workers, "", parts={"samples_per_cpu_s": rate}),
    ]


def query(bench: Bench) -> list[Figure]:
    """Queries of the mini at 640 x 480, in a process of their own."""
    command = [sys.executable, "-m", "affordagent.evaluations.bench_query", "--data", str(bench.data)]
    command += ["--checkpoint", str(bench.checkpoint), "--queries", str(bench.queries)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise AffordAgentError(f"the queries failed:\n{run.stderr[-2000:]}")
    got = json.loads(run.stdout.splitlines()[-1])
    total = float(np.median(got["grounding_cpu_s"]))
    steps = [Figure(f"mini query: {s}", float(np.median(got["cpu_s"][s])), "CPU-s") for s in ("understand", *GROUNDING)]
    parts = {"proposals": got["proposals"], "each": got["grounding_cpu_s"], "steps": got["cpu_s"]}
    return [
        *steps,
        Figure("mini query, from depth to the part", total, "CPU-s", most=0.6, parts=parts),
        Figure("mini query, slowest", max(got["grounding_cpu_s"]), "CPU-s"),
        Figure("loading the models", got["loading_cpu_s"], "CPU-s"),
        Figure("peak memory after loading", got["peak_mb_loaded"], "MB"),
        Figure("peak memory of the queries", got["peak_mb"], "MB", most=1536),
    ]


def checkpoint_size(bench: Bench) -> list[Figure]:
    size = sum(file.stat().st_size for file in bench.checkpoint.iterdir() if file.is_file())
    return [Figure("mini checkpoint", size / MB, "MB", most=40)]


def rows_of_data(bench: Bench) -> list[Figure]:
    """Rows of affordance data: written to and read from Parquet, and read from a pickle without running it."""
    from affordagent.finetune.data.pickles import load_plain
    from affordagent.finetune.data.schema import Sample
    from affordagent.finetune.data.table import read_samples, write_parquet

    samples = [
        Sample(f"images/{i % 9999:05d}.jpg", f"pass me thing {i}", f"masks/{i:05d}.png", 8, category=f"thing {i % 180}")
        for i in range(PARQUET_ROWS)
    ]
    parquet, pickled = bench.scratch / "rows.parquet", bench.scratch / "rows.pkl"
    pickled.write_bytes(pickle.dumps([asdict(sample) for sample in samples]))
    tasks: dict[str, Callable[[], object]] = {
        "written to Parquet": lambda: write_parquet(samples, parquet),
        "read from Parquet": lambda: read_samples(parquet),
        "read from a pickle": lambda: load_plain(pickled),
    }
    figures = []
    for name, work in tasks.items():
        started = time.process_time()
        work()
        seconds = time.process_time() - started
        parts = {"rows": PARQUET_ROWS, "cpu_s": seconds}
        figures.append(Figure(f"rows {name}", PARQUET_ROWS / seconds, "rows/CPU-s", parts=parts))
    return figures


BENCHES: tuple[Callable[[Bench], list[Figure]], ...] = (
    mini_training,
    published_loader,
    query,
    checkpoint_size,
    rows_of_data,
    *GRASPING_BENCHES,
    overhead,
)


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": len(models) or None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch_threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "numpy", "opencv-python-headless", "timm", "pyarrow")},
    }


def render(folder: Path, pictures: int) -> None:
    """In a process of its own, which leaves no renderer behind."""
    command = [sys.executable, "-m", "affordagent.robot.sim.dataset", "--out", str(folder), "--split", "val"]
    subprocess.run([*command, "--images", str(pictures), "--seed", str(SEED)], check=True)


def table(figures: list[Figure]) -> str:
    lines = []
    for figure in figures:
        limits = [(">=", figure.least), ("<=", figure.most)]
        limit = " ".join(f"{sign} {value:g}" for sign, value in limits if value is not None)
        verdict = {None: "", True: "ok", False: "MISSED"}[figure.met]
        lines.append(f"{figure.name:<50}{figure.value:>12,.3f} {figure.unit:<14}{limit:<10}{verdict}".rstrip())
    return "\n".join(lines)


def run(bench: Bench, benches: tuple[Callable[[Bench], list[Figure]], ...] = BENCHES) -> list[Figure]:
    """All figures, printed as they come."""
    torch.set_num_threads(1)
    figures: list[Figure] = []
    for one in benches:
        found = one(bench)
        figures += found
        print(table(found), flush=True)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    parser.add_argument("--data", type=Path, help="rendered set (default: rendered now)")
    parser.add_argument("--vlm", type=Path, help="checkpoint in the published format")
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED_CHECKPOINT, help="the mini to measure")
    parser.add_argument("--full", action="store_true", help="all reporting scenes: about an hour on one core")
    parser.add_argument("--rival", help="grasp network to compare with: contact-graspnet:FILE, ... (see docs)")
    parser.add_argument("--only", nargs="+", choices=[one.__name__ for one in BENCHES])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.data
        chosen = tuple(one for one in BENCHES if not given.only or one.__name__ in given.only)
        if folder is None and not set(chosen) <= {*GRASPING_BENCHES, overhead}:
            folder = Path(scratch) / "rendered"
            render(folder, PICTURES)
        data = folder or Path(scratch)
        bench = Bench(data, Path(scratch), given.vlm, checkpoint=given.checkpoint, full=given.full, rival=given.rival)
        figures = run(bench, chosen)
    rows = [asdict(figure) | {"met": figure.met} for figure in figures]
    given.out.write_text(
        json.dumps({"seed": SEED, "full": given.full, "machine": machine(), "figures": rows}, indent=1)
    )
    return 1 if any(figure.met is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
