"""Train the object proposals' head.

`python -m affordagent.finetune.objectness_train --data DIR --minutes M --out DIR [--resume]`

`--out` gets the averaged weights as a checkpoint for `finetune.objectness.Objectness`, and what `--resume` needs.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from affordagent.finetune.mini_data import Row, list_rows
from affordagent.finetune.objectness import Maps, ObjectnessNet, closeness, export
from affordagent.finetune.objectness_data import Sample, sample_batch

BATCH = 4
LR, WEIGHT_DECAY, WARMUP_STEPS = 2e-3, 0.02, 50
AVERAGE = 0.997
SAVE_S = 120.0


def lovasz_hinge(margin: Tensor, own: Tensor) -> Tensor:
    """The Lovasz extension of 1 - IoU (Berman et al. 2018), for each row. margin, own: (K, N), own 0 or 1, margin
    positive where the cell counts as own."""
    errors, order = (1 - margin * (2 * own - 1)).sort(dim=1, descending=True)
    truth = own.gather(1, order)
    total = truth.sum(1, keepdim=True)
    jaccard = 1 - (total - truth.cumsum(1)) / (total + (1 - truth).cumsum(1)).clamp(min=1)
    step = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], 1)
    return (F.relu(errors) * step).sum(1)


def instance_loss(votes: Tensor, spread: Tensor, seeds: Tensor, things: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(grouping, evenness of the spread, seeds) of one picture. votes (2, N), spread, seeds and things (N,); only cells
    of things are grouped, the foreground map tells them from the rest."""
    solid = things > 0
    if not solid.any():
        return votes.sum() * 0, votes.sum() * 0, (seeds.sigmoid() ** 2).mean()
    names = things[solid].unique()
    own = (things[solid][None] == names[:, None]).float()
    count = own.sum(1)
    inside_votes, inside_spread = votes[:, solid], spread[solid]
    middle = (own @ inside_votes.T) / count[:, None]
    mean_spread = (own @ inside_spread) / count
    close = closeness(inside_votes, middle, mean_spread)
    grouping = lovasz_hinge(2 * close - 1, own).mean()
    mine = own.argmax(0)
    evenness = ((inside_spread - mean_spread[mine].detach()) ** 2).mean()
    target = torch.zeros_like(seeds)
    target[solid] = close.detach().gather(0, mine[None])[0]
    weight = torch.ones_like(seeds)
    weight[solid] = 4 * (400 / count[mine]).sqrt().clamp(0.5, 4)
    return grouping, evenness, (weight * (seeds.sigmoid() - target) ** 2).mean()


def step_loss(maps: Maps, batch: list[Sample]) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch and its terms."""
    parts = [
        instance_loss(votes.flatten(1), spread.flatten(), seeds.flatten(), torch.from_numpy(sample.things).flatten())
        for votes, spread, seeds, sample in zip(maps.votes, maps.spread, maps.seeds, batch, strict=True)
    ]
    grouping, evenness, seeds = (torch.stack(part).mean() for part in zip(*parts, strict=True))
    target = torch.from_numpy(np.stack([sample.foreground for sample in batch]))
    logits = maps.foreground[:, 0]
    entropy = F.binary_cross_entropy_with_logits(logits, target)
    p = logits.sigmoid()
    dice = 1 - (2 * (p * target).sum((1, 2)) + 1) / (p.sum((1, 2)) + target.sum((1, 2)) + 1)
    loss = grouping + 0.1 * evenness + 3 * seeds + 2 * entropy + dice.mean()
    terms = {"loss": loss, "group": grouping, "even": evenness, "seeds": seeds, "bce": entropy, "dice": dice.mean()}
    return loss, {name: value.item() for name, value in terms.items()}


class Trainer:
    """Network, averaged head, optimizer, step and seconds trained of one run."""

    def __init__(self, out: Path, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.out, self.seed = out, seed
        self.net = ObjectnessNet().train()
        self.average = {name: value.clone() for name, value in self.net.head.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.net.head.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
        self.step, self.trained_s = 0, 0.0

    def train_step(self, rows: list[Row], progress: float) -> dict[str, float]:
        batch = sample_batch(rows, BATCH, self.seed, self.step)
        lr = (
            LR * min(1.0, (self.step + 1) / WARMUP_STEPS) * (0.49 * (1 + math.cos(math.pi * min(progress, 1.0))) + 0.02)
        )
        for settings in self.optimizer.param_groups:
            settings["lr"] = lr
        loss, terms = step_loss(self.net(torch.from_numpy(np.stack([s.image for s in batch]))), batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.head.parameters(), 2.0)
        self.optimizer.step()
        self.step += 1
        keep = min(AVERAGE, self.step / (self.step + 10))
        for name, value in self.net.head.state_dict().items():
            self.average[name].lerp_(value, 1 - keep)
        return terms

    def save(self) -> None:
        """The checkpoint, and the state of the run; `state.json` comes last."""
        export(self.average, self.out)
        save_file({n: v.contiguous() for n, v in self.net.head.state_dict().items()}, self.out / "raw.safetensors")
        save_file({n: v.contiguous() for n, v in self.average.items()}, self.out / "average.safetensors")
        torch.save(self.optimizer.state_dict(), self.out / "optimizer.pt")
        state = {"step": self.step, "trained_s": self.trained_s, "seed": self.seed}
        (self.out / "state.json").write_text(json.dumps(state))

    def resume(self) -> None:
        state = json.loads((self.out / "state.json").read_text())
        self.net.head.load_state_dict(load_file(self.out / "raw.safetensors"))
        self.average = load_file(self.out / "average.safetensors")
        self.optimizer.load_state_dict(torch.load(self.out / "optimizer.pt", weights_only=True))
        self.step, self.trained_s, self.seed = state["step"], state["trained_s"], state["seed"]


def run(data: Path, minutes: float, out: Path, resume: bool) -> None:
    """Train until `minutes` of CPU time have passed, all resumes together."""
    torch.set_num_threads(1)
    trainer = Trainer(out)
    if resume:
        trainer.resume()
    out.mkdir(parents=True, exist_ok=True)
    rows, recent, saved_s = list_rows(data), [], trainer.trained_s
    with (out / "log.jsonl").open("a") as log:
        while trainer.trained_s < minutes * 60:
            started = time.process_time()
            recent.append(trainer.train_step(rows, trainer.trained_s / (minutes * 60)))
            trainer.trained_s += time.process_time() - started
            if len(recent) == 50:
                mean = {name: round(float(np.mean([r[name] for r in recent])), 4) for name in recent[0]}
                log.write(json.dumps({"step": trainer.step, "trained_s": round(trainer.trained_s), **mean}) + "\n")
                log.flush()
                recent = []
            if trainer.trained_s - saved_s > SAVE_S:
                trainer.save()
                saved_s = trainer.trained_s
        trainer.save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="rendered training set")
    parser.add_argument("--minutes", type=float, required=True, help="CPU minutes")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    run(given.data, given.minutes, given.out, given.resume)


if __name__ == "__main__":
    main()
