"""Training of AffordanceVLM: one loop, on one device or, by `accelerate launch`, on many (docs/training.md)."""

from __future__ import annotations

import argparse
import hashlib
import logging
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType, PartialState
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.table import read_samples
from affordagent.finetune.vlm.checkpoint import Checkpoint, load_network, open_checkpoint
from affordagent.finetune.vlm.collate import Batch, TrainingExamples, ValidationExamples, collate
from affordagent.finetune.vlm.config import TrainConfig, config_named
from affordagent.finetune.vlm.lora import add_adapters_, load_trained_, trained_weights
from affordagent.finetune.vlm.losses import training_losses
from affordagent.finetune.vlm.mixture import Mixture
from affordagent.finetune.vlm.precision import DTYPES
from affordagent.finetune.vlm.run_folder import LOGS, PATHS, WEIGHTS, Position, RunFolder, read_position, read_trained
from affordagent.finetune.vlm.train_args import add_arguments
from affordagent.finetune.vlm.validate import rows_to_validate, validate
from affordagent.finetune.vlm.weights import weight_files

LOSSES = ("total", "ce", "bce", "dice")


@dataclass(frozen=True)
class Task:
    """What is trained on what. base: a folder in the published format; data, val: Parquet or CSV files of rows."""

    config: TrainConfig
    base: Path
    data: tuple[Path, ...]
    out: Path
    vision_tower: Path | None = None
    val: tuple[Path, ...] = ()

    def facts(self, opened: Checkpoint) -> dict[str, Any]:
        """What a resumed run must agree with, and, under "paths", where things were."""
        return {
            "config": self.config.as_json(),
            "base_weights": {file.name: file.stat().st_size for file in weight_files(opened.folder)},
            "data": {file.name: _digest(file) for file in self.data},
            "val": {file.name: _digest(file) for file in self.val},
            PATHS: {"base": str(opened.folder.absolute()), "vision_tower": str(opened.tower.absolute())},
        }


def train(task: Task, *, resume: bool = False, stop_after: int | None = None) -> Position:
    """Train to the end, or for `stop_after` steps, and say how far it came.

    Raises:
        AffordAgentError: something is missing or does not fit, `task.out` holds another run, a row cannot be used, or
            the loss is no number any more.
    """
    if stop_after is not None and stop_after < 1:
        raise AffordAgentError(f"--stop-after {stop_after} must be at least 1")
    config = task.config
    accelerator = _accelerator(config)
    opened = open_checkpoint(task.base, task.vision_tower)
    folder = RunFolder(task.out)
    if accelerator.is_main_process:
        folder.start(task.facts(opened), resume)
    accelerator.wait_for_everyone()
    checkpoint = folder.newest() if resume else None
    position = read_position(checkpoint) if checkpoint else Position()

    model, optimizer = _prepare(config, opened, accelerator, checkpoint)
    rows = [row for file in task.data for row in read_samples(file)]
    mixture = Mixture(rows, config.group_rates, config.set_rates, seed=config.seed, questions=config.questions)
    suites = {file.stem: _suite(file, opened) for file in task.val}
    end = config.steps if stop_after is None else min(config.steps, position.step + stop_after)
    examples = TrainingExamples(mixture, opened.tokens, config.max_length)
    batches = _batches(examples, config, accelerator, position.drawn, end - position.step)
    journal = _Journal(folder.path / LOGS, accelerator, position.step)

    while position.step < end:
        start_s = time.perf_counter()
        lr = config.learning_rate_at(position.step)
        losses = _step(model, optimizer, lr, batches, accelerator, config)
        drawn = config.micro_batch * config.accumulate * accelerator.num_processes
        position = replace(position, step=position.step + 1, drawn=position.drawn + drawn)
        journal.step(position.step, config.steps, losses, lr, time.perf_counter() - start_s)
        at_epoch = position.step % config.steps_per_epoch == 0
        if at_epoch and suites:
            position = _validate(model, accelerator, suites, config, position, folder, journal)
        if at_epoch or position.step % config.save_steps == 0 or position.step == end:
            _save(model, accelerator, folder, position)
    journal.close()
    return position


def _accelerator(config: TrainConfig) -> Accelerator:
    """Without its data loaders and schedulers: which sample is whose, and the rate, are functions of the position."""
    accelerator = Accelerator(
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        gradient_accumulation_steps=config.accumulate,
        # a micro-batch may hold no mask, and the decoder's guess of its own IoU is never trained
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        settings = accelerator.state.deepspeed_plugin.deepspeed_config
        settings["train_micro_batch_size_per_gpu"] = config.micro_batch
        settings["gradient_accumulation_steps"] = config.accumulate
        settings["gradient_clipping"] = config.clip_norm
    if accelerator.distributed_type in (DistributedType.NO, *_DATA_PARALLEL):
        accelerator.register_save_state_pre_hook(lambda models, weights, folder: weights.clear())
        accelerator.register_load_state_pre_hook(lambda models, folder: models.clear())
    return accelerator


_DATA_PARALLEL = (DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)


def _prepare(
    config: TrainConfig, opened: Checkpoint, accelerator: Accelerator, checkpoint: Path | None
) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(config.seed)  # LoRA's first weights, the same for all processes
    sharded = accelerator.distributed_type == DistributedType.FSDP
    device = torch.device("cpu") if sharded else accelerator.device
    network = load_network(opened, DTYPES[config.precision], device)
    add_adapters_(network, config)
    if checkpoint:
        load_trained_(network, read_trained(checkpoint / WEIGHTS))
    if config.gradient_checkpointing:
        network.model.gradient_checkpointing_enable({"use_reentrant": False})
    trained = [p for p in network.parameters() if p.requires_grad]
    model, optimizer = accelerator.prepare(network, torch.optim.AdamW(trained, betas=config.betas, weight_decay=0.0))
    network.model.rotary_emb = LlamaRotaryEmbedding(opened.shape.llama).to(accelerator.device)  # DeepSpeed rounds it
    torch.manual_seed(config.seed + 1 + accelerator.process_index)  # dropout, another for each
    if checkpoint:
        deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
        accelerator.load_state(str(checkpoint), **({"load_module_strict": False} if deepspeed else {}))
    return model.train(), optimizer


def numbers_of(rank: int, processes: int, start: int, steps: int, config: TrainConfig) -> list[int]:
    """The samples of one process, in order, for so many steps from sample number `start` of the run.

    All processes together read start, start + 1, ... without a gap, whatever their number.
    """
    micro = config.micro_batch
    return [
        start + (turn * processes + rank) * micro + place
        for turn in range(steps * config.accumulate)
        for place in range(micro)
    ]


def _batches(
    examples: TrainingExamples, config: TrainConfig, accelerator: Accelerator, start: int, steps: int
) -> Iterator[Batch]:
    return iter(
        DataLoader(
            examples,
            batch_size=config.micro_batch,
            sampler=numbers_of(accelerator.process_index, accelerator.num_processes, start, steps, config),
            num_workers=config.workers,
            collate_fn=partial(collate, filling=examples.tokens.unk),
            generator=torch.Generator(),  # the loader must not touch the numbers that dropout draws from
        )
    )


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    lr: float,
    batches: Iterator[Batch],
    accelerator: Accelerator,
    config: TrainConfig,
) -> dict[str, float]:
    """One step of the optimiser; the losses are means over its micro-batches and all processes."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    sums = torch.zeros(len(LOSSES), device=accelerator.device)
    for _ in range(config.accumulate):
        batch = next(batches).to(accelerator.device)
        with accelerator.accumulate(model):
            losses = training_losses(model(**batch.inputs()), batch.masks, config)
            accelerator.backward(losses.total)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
        sums += torch.stack([getattr(losses, name).detach().float() for name in LOSSES])
    means = accelerator.reduce(sums, reduction="mean") / config.accumulate
    if not bool(torch.isfinite(means).all()):
        raise AffordAgentError(
            f"the losses {', '.join(LOSSES)} are {means.tolist()}: training has failed; resume from the newest "
            "checkpoint with a lower learning rate or precision fp32"
        )
    return dict(zip(LOSSES, means.tolist(), strict=True))


def _validate(
    model: nn.Module,
    accelerator: Accelerator,
    suites: dict[str, ValidationExamples],
    config: TrainConfig,
    position: Position,
    folder: RunFolder,
    journal: _Journal,
) -> Position:
    """The mean of the suites' gIoU decides which weights are the best."""
    scores = {name: validate(model, accelerator, examples, config.workers) for name, examples in suites.items()}
    for name, score in scores.items():
        journal.scalars(position.step, {f"val/{name}/giou": score.giou, f"val/{name}/ciou": score.ciou})
        journal.pictures(position.step, f"val/{name}", score.pictures)
        accelerator.print(f"step {position.step}: {name} gIoU {score.giou:.4f}, cIoU {score.ciou:.4f} (n {score.n})")
    giou = sum(score.giou for score in scores.values()) / len(scores)
    if position.best_giou is not None and giou <= position.best_giou:
        return position
    position = replace(position, best_giou=giou)
    weights = _trained(model, accelerator)
    if accelerator.is_main_process:
        folder.keep_best(weights, position)
    return position


def _save(model: nn.Module, accelerator: Accelerator, folder: RunFolder, position: Position) -> None:
    draft = folder.draft(position.step)
    if accelerator.is_main_process:
        shutil.rmtree(draft, ignore_errors=True)  # of a run that was cut while it wrote
    accelerator.wait_for_everyone()
    weights = _trained(model, accelerator)
    deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
    accelerator.save_state(str(draft), **({"exclude_frozen_parameters": True} if deepspeed else {}))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        folder.keep(draft, weights, position)
    accelerator.wait_for_everyone()


def _trained(model: nn.Module, accelerator: Accelerator) -> dict[str, Tensor]:
    """On the CPU; whole also where processes hold shards of it."""
    state = trained_weights(accelerator.get_state_dict(model))
    return {name: weight.detach().cpu().contiguous() for name, weight in state.items()}


def _suite(file: Path, opened: Checkpoint) -> ValidationExamples:
    rows = rows_to_validate(read_samples(file))
    if not rows:
        raise AffordAgentError(f"{file} has no row with a mask to validate on")
    return ValidationExamples(rows, opened.tokens)


def _digest(file: Path) -> str:
    if not file.is_file():
        raise AffordAgentError(f"{file} is not there; give a .parquet or .csv file")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Journal:
    """TensorBoard and lines on the terminal, by the main process. Steps behind `start`, of a run that was cut, go."""

    def __init__(self, folder: Path, accelerator: Accelerator, start: int) -> None:
        self.print = accelerator.print
        self.writer = SummaryWriter(str(folder), purge_step=start + 1) if accelerator.is_main_process else None

    def step(self, step: int, steps: int, losses: dict[str, float], lr: float, seconds: float) -> None:
        self.scalars(step, {f"train/{name}": value for name, value in losses.items()})
        self.scalars(step, {"train/lr": lr, "train/seconds_a_step": seconds})
        parts = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        self.print(f"step {step}/{steps}: {parts}, lr {lr:.2e}, {seconds:.1f} s")

    def scalars(self, step: int, values: dict[str, float]) -> None:
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def pictures(self, step: int, name: str, pictures: list[Any]) -> None:
        if self.writer:
            for number, picture in enumerate(pictures):
                self.writer.add_image(f"{name}/{number}", picture, step, dataformats="HWC")

    def close(self) -> None:
        if self.writer:
            self.writer.close()


def run(args: argparse.Namespace) -> int:
    """With the arguments of `train_args`."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    task = Task(config_named(args.config), args.base, tuple(args.data), args.out, args.vision_tower, tuple(args.val))
    position = train(task, resume=args.resume, stop_after=args.stop_after)
    best = "" if position.best_giou is None else f", best gIoU {position.best_giou:.4f}"
    PartialState().print(f"{args.out}: {position.step} steps, {position.drawn} samples{best}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    args = parser.parse_args()
    try:
        return run(args)
    except AffordAgentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
