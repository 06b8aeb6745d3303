"""Train the grasp scorer on a table of outcomes (`affordagent.evaluations.grasp_outcomes features`).

    python -m affordagent.finetune.grasp_scorer --table features.npz --out tools/grasping/scorer.safetensors

Three judges are compared on what they were not trained on: the score made by hand, logistic regression on its terms,
and an ensemble of small perceptrons on the features. Once the scenes are dealt into folds (new things of known kinds)
and once the categories (new kinds); each fold is judged by models trained on the others. The perceptrons of all rows
are saved; the numbers are written beside them as JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

Array = NDArray[np.float64]

FOLDS = 5
HIDDEN, MEMBERS, EPOCHS, BATCH = 24, 5, 25, 256
LR, WEIGHT_DECAY, DROPOUT, JITTER = 2e-3, 0.02, 0.35, 0.05
CLIP = 4.0  # standardised features beyond are cut off
RANKING = 0.5  # weight of telling good from bad on the same thing, against calibration


@dataclass(frozen=True)
class Table:
    """features: (N, F) by names, terms: (N, T), score: (N,) made by hand, success: (N,) 0 or 1, group: (N,) the
    thing."""

    features: Array
    names: tuple[str, ...]
    terms: Array
    score: Array
    success: Array
    group: NDArray[np.str_]
    category: NDArray[np.str_]
    scene: NDArray[np.str_]

    def take(self, mask: NDArray[np.bool_]) -> Table:
        columns = {k: v[mask] for k, v in vars(self).items() if k != "names"}
        return Table(names=self.names, **columns)

    def __len__(self) -> int:
        return len(self.success)


def read_table(path: Path) -> Table:
    with np.load(path) as file:
        return Table(
            file["features"].astype(float),
            tuple(map(str, file["names"])),
            file["terms"].astype(float),
            file["score"].astype(float),
            file["success"].astype(float),
            file["group"],
            file["category"],
            file["scene"],
        )


def folds(kinds: NDArray[np.str_], count: int = FOLDS, seed: int = 0) -> NDArray[np.int_]:
    """(N,) fold of each row: rows of the same scene, or category, stay together."""
    names, index = np.unique(kinds, return_inverse=True)
    return (np.random.default_rng(seed).permutation(len(names)) % count)[index]


class Perceptron(nn.Module):
    """(B, F) standardised features -> (B,) logits."""

    def __init__(self, inputs: int, hidden: int = HIDDEN, dropout: float = DROPOUT) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out[:, 0]


@dataclass(frozen=True)
class Standardiser:
    mean: Array
    scale: Array

    @classmethod
    def of(cls, values: Array) -> Standardiser:
        return cls(values.mean(0), np.maximum(values.std(0), 1e-3))

    def __call__(self, values: Array) -> Tensor:
        return torch.from_numpy(np.clip((values - self.mean) / self.scale, -CLIP, CLIP)).float()


def train_network(x: Tensor, table: Table, net: nn.Module, seed: int, epochs: int = EPOCHS) -> nn.Module:
    """Fit `net` to the outcomes: cross entropy, and of each pair of a good and a bad grasp on one thing the good one
    should score higher."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    success = torch.from_numpy(table.success).float()
    _, group = np.unique(table.group, return_inverse=True)
    order_of_groups = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    net.train()
    for _ in range(epochs):
        shuffled = torch.randperm(len(order_of_groups), generator=generator).tolist()
        rows = np.concatenate([order_of_groups[g] for g in shuffled])
        for start in range(0, len(rows), BATCH):
            batch = torch.from_numpy(rows[start : start + BATCH])
            noisy = x[batch] + JITTER * torch.randn(len(batch), x.shape[1], generator=generator)
            logits = net(noisy)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, success[batch])
            loss = loss + RANKING * _ranking_loss(logits, success[batch], torch.from_numpy(group[batch.numpy()]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return net.eval()


def _ranking_loss(logits: Tensor, success: Tensor, group: Tensor) -> Tensor:
    pairs = (success[:, None] > success[None]) & (group[:, None] == group[None])
    if not pairs.any():
        return logits.sum() * 0
    return nn.functional.softplus(logits[None] - logits[:, None])[pairs].mean()


def logits_of(nets: Sequence[nn.Module], x: Tensor) -> Array:
    """(N,) mean over the ensemble."""
    with torch.no_grad():
        return np.asarray(torch.stack([net(x) for net in nets]).mean(0), float)


def auc(score: Array, success: Array) -> float:
    """Chance that a success scores higher than a failure, ties count half; NaN without both."""
    good, bad = score[success > 0], score[success == 0]
    if not len(good) or not len(bad):
        return float("nan")
    return float(((good[:, None] > bad).mean() + (good[:, None] >= bad).mean()) / 2)


def measure(table: Table, score: Array) -> dict[str, float]:
    """auc: over all rows; auc_within: mean over the things with both outcomes; top1, top5: share of successes among the
    best one and the best five (where there are more) of each thing's tried grasps."""
    groups = [table.group == g for g in np.unique(table.group)]
    within = np.array([auc(score[g], table.success[g]) for g in groups])
    ranked = [table.success[g][np.argsort(-score[g], kind="stable")] for g in groups]
    return {
        "rows": len(table),
        "things": len(groups),
        "success": round(float(table.success.mean()), 4),
        "auc": round(auc(score, table.success), 4),
        "auc_within": round(float(np.nanmean(within)), 4),
        "top1": round(float(np.mean([r[0] for r in ranked])), 4),
        "top5": round(float(np.mean([r[:5].mean() for r in ranked])), 4),
    }


def reliability(probability: Array, success: Array, bins: int = 10) -> dict[str, Any]:
    """Expected calibration error, Brier score, and (mean prediction, rate, count) of each bin that is not empty."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    rows = [(probability[index == b].mean(), success[index == b].mean(), int((index == b).sum()))
            for b in range(bins) if (index == b).any()]  # fmt: skip
    error = sum(abs(p - s) * n for p, s, n in rows) / len(success)
    return {
        "ece": round(float(error), 4),
        "brier": round(float(np.mean((probability - success) ** 2)), 4),
        "bins": [[round(float(p), 3), round(float(s), 3), n] for p, s, n in rows],
    }


@dataclass(frozen=True)
class Ensemble:
    nets: tuple[nn.Module, ...]
    scale: Standardiser

    @classmethod
    def fit(cls, table: Table, members: int = MEMBERS) -> Ensemble:
        scale = Standardiser.of(table.features)
        x = scale(table.features)
        nets = []
        for seed in range(members):
            torch.manual_seed(seed)
            nets.append(train_network(x, table, Perceptron(x.shape[1]), seed))
        return cls(tuple(nets), scale)

    def __call__(self, table: Table) -> Array:
        """(N,) logits."""
        return logits_of(self.nets, self.scale(table.features))


def judged_unseen(table: Table, fold: NDArray[np.int_]) -> dict[str, Any]:
    """What each judge makes of rows that it was not trained on."""
    linear, learned = np.zeros(len(table)), np.zeros(len(table))
    for k in np.unique(fold):
        rest, mine = table.take(fold != k), table.take(fold == k)
        learned[fold == k] = Ensemble.fit(rest)(mine)
        scale = Standardiser.of(_logs(rest.terms))
        torch.manual_seed(0)
        line = train_network(scale(_logs(rest.terms)), rest, _Linear(rest.terms.shape[1]), 0)
        linear[fold == k] = logits_of([line], scale(_logs(mine.terms)))
    return {
        "by_hand": measure(table, table.score),
        "logistic_on_terms": measure(table, linear),
        "perceptrons": measure(table, learned),
        "calibration": reliability(1 / (1 + np.exp(-learned)), table.success),
    }


def train(table: Table, out: Path, source: dict[str, Any]) -> dict[str, Any]:
    """Compare, train on everything, save; returns the report."""
    report = {
        **source,
        "new_things": judged_unseen(table, folds(table.scene)),
        "new_categories": judged_unseen(table, folds(table.category)),
    }
    ensemble = Ensemble.fit(table)
    save(ensemble.nets, ensemble.scale, table.names, report, out)
    return report


class _Linear(nn.Linear):
    def __init__(self, inputs: int) -> None:
        super().__init__(inputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, 0]


def _logs(terms: Array) -> Array:
    """The score made by hand is a sum of weighted logarithms."""
    return np.log(np.maximum(terms, 1e-3))


def save(
    nets: Sequence[nn.Module], scale: Standardiser, names: Sequence[str], report: dict[str, Any], out: Path
) -> None:
    """Weights stacked over the ensemble as `w0` (M, F, H), `b0` (M, H), ..., the scale, and the names in the header."""
    linear = [[m for m in net.modules() if isinstance(m, nn.Linear)] for net in nets]
    tensors = {"mean": torch.from_numpy(scale.mean).float(), "scale": torch.from_numpy(scale.scale).float()}
    for i, layers in enumerate(zip(*linear, strict=True)):
        tensors[f"w{i}"] = torch.stack([layer.weight.detach().T for layer in layers]).contiguous()
        tensors[f"b{i}"] = torch.stack([layer.bias.detach() for layer in layers]).contiguous()
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out, metadata={"features": json.dumps(list(names)), "clip": str(CLIP)})
    report = {"sha256": hashlib.sha256(out.read_bytes()).hexdigest(), **report}
    out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help=".safetensors")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    table = read_table(given.table)
    source = {
        "outcomes": len(table),
        "things": len(np.unique(table.group)),
        "scenes": sorted(map(str, np.unique(table.scene))),
        "table_sha256": hashlib.sha256(given.table.read_bytes()).hexdigest(),
        "members": MEMBERS,
        "hidden": HIDDEN,
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    print(json.dumps(train(table, given.out, source), indent=1))


if __name__ == "__main__":
    main()
