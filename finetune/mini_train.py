"""Train the small AffordanceVLM.

`python -m affordagent.finetune.mini_train --data DIR --val DIR --minutes M --out DIR`

One loop: crops -> losses (masks, match, contrastive) -> AdamW -> EMA. Starts while the data is still being rendered,
and resumes from its last checkpoint with `--resume`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from affordagent.core.embedded import text_encoder
from affordagent.finetune.mini_data import Crop, CropSampler, Row, list_rows, sample_batch
from affordagent.finetune.mini_model import Decoded, Features, MiniAffordanceVLM, MiniConfig
from affordagent.finetune.mini_texts import PART_OF, STYLE_SHARES, WHOLE_OF, Text, TextPool

Sizes = tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class TrainConfig:
    """sizes: (share of the training time from which on, crop side); trunk_lr: of the picture trunk, relative to lr;
    texts: of the contrastive loss a step; relist_steps: how often to look for new data; save_s: between checkpoints;
    styles: shares of the text styles; every: train on every so-manieth picture only."""

    model: MiniConfig
    crops: int = 12
    sizes: Sizes = ((0.0, 128), (0.35, 160), (0.7, 192))
    lr: float = 1e-3
    trunk_lr: float = 0.25
    weight_decay: float = 0.02
    warmup_steps: int = 100
    ema: float = 0.998
    texts: int = 96
    relist_steps: int = 100
    save_s: float = 240.0
    seed: int = 0
    styles: tuple[float, float, float] = STYLE_SHARES
    every: int = 1


CONFIGS = {
    "base": TrainConfig(MiniConfig()),
    "continued": TrainConfig(MiniConfig(), sizes=((0.0, 160), (0.5, 192)), lr=6e-4, seed=1),  # from --init
    "debug": TrainConfig(MiniConfig(32, 16, 1, 16), crops=3, sizes=((0.0, 64),), texts=12, warmup_steps=1),
}


def mask_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Focal cross-entropy + dice, part and half of object. logits, target (Q, 2, h, w); weight (Q,)."""
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focal = (entropy * (1 - torch.exp(-entropy)) ** 1.5).mean((2, 3)) * 12
    p = logits.sigmoid()
    dice = 1 - (2 * (p * target).sum((2, 3)) + 1) / (p.sum((2, 3)) + target.sum((2, 3)) + 1)
    return (((focal + dice) * torch.tensor([1.0, 0.5])).sum(1) * weight).mean()


def contrastive_loss(similarity: Tensor, same: Tensor) -> Tensor:
    """Every (crop, text) pair on its own (SigLIP, Zhai et al. 2023), and for each text with a crop in the batch a
    softmax over the crops. similarity, same: (B, N)."""
    pairs = F.binary_cross_entropy_with_logits(similarity, same, pos_weight=torch.tensor(4.0))
    named = same.sum(0) > 0
    log_share = similarity[:, named].log_softmax(0)
    hit = torch.logsumexp(log_share.masked_fill(same[:, named] == 0, -1e4), 0)
    return 2 * pairs - 0.5 * hit.mean()


@dataclass(frozen=True)
class Batch:
    """Tensors of one step: `mini_model`'s inputs and what should come out."""

    image: Tensor
    geometry: Tensor
    texts: list[str]  # right ones of the crops with a target, then the wrong ones of all crops
    crop: Tensor
    target: Tensor
    weight: Tensor
    bank: list[str]
    same: Tensor


def collate(crops: list[Crop], bank: list[Text]) -> Batch:
    """Stack crops; texts that mean the crop first, so that only those get masks."""
    own = [i for i, crop in enumerate(crops) if crop.target is not None]
    same = [[any(text.means(*shown) for shown in crop.shows) for text in bank] for crop in crops]
    return Batch(
        torch.from_numpy(np.stack([c.image for c in crops])),
        torch.from_numpy(np.stack([c.geometry for c in crops])),
        [crops[i].text for i in own] + [c.wrong for c in crops],
        torch.tensor(own + list(range(len(crops)))),
        torch.from_numpy(np.stack([t for c in crops if (t := c.target) is not None])),
        torch.tensor([crops[i].weight for i in own]),
        [text.words for text in bank],
        torch.tensor(same, dtype=torch.float32),
    )


def sample_bank(pool: TextPool, crops: list[Crop], count: int, rng: np.random.Generator) -> list[Text]:
    """Two texts for every thing shown, the rest for anything."""
    shown = sorted({pair for crop in crops for pair in crop.shows})
    bank = [pool.draw(rng, category, colour, None) for category, colour in shown for _ in range(2)]
    colours = sorted({colour for _, colour in shown}) or ["red"]
    while len(bank) < count:
        bank.append(pool.draw(rng, str(rng.choice(pool.categories)), str(rng.choice(colours)), None))
    return bank


def ask(net: MiniAffordanceVLM, features: Features, texts: list[str], crop: Tensor, own: int) -> tuple[Tensor, Tensor]:
    """(own, 2, h, w) mask logits, part and object, of the first `own` texts; (Q,) logits that a text means its crop.

    A network with one query is asked twice: for the part to hold, and for the whole thing."""
    encoder = text_encoder()
    both = net.config.queries == 2
    asked = (
        texts if both else [PART_OF.format(text) for text in texts[:own]] + [WHOLE_OF.format(text) for text in texts]
    )
    crops = crop if both else torch.cat([crop[:own], crop])
    decoded = net.decode(features, *encoder.tokens(asked), crops)
    count = own if both else 2 * own
    mine = Decoded(decoded.queries[:count], decoded.grid[:count], decoded.match[:count])
    logits = net.masks(features, mine, crops[:count])
    if both:
        return logits, decoded.match
    return torch.cat([logits[:own], logits[own:]], 1), decoded.match[own:]


def step_loss(net: MiniAffordanceVLM, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The loss of one batch and its figures."""
    encoder = text_encoder()
    features = net.encode(batch.image, batch.geometry)
    own = len(batch.target)
    logits, said = ask(net, features, batch.texts, batch.crop, own)
    sentences = torch.from_numpy(encoder.sentences(batch.bank))
    similarity = net.similarities(net.embed_crops(features), net.embed_texts(sentences))
    means = (torch.arange(len(batch.texts)) < own).float()
    masks = mask_loss(logits, batch.target, batch.weight)
    match = F.binary_cross_entropy_with_logits(said, means)
    contrast = contrastive_loss(similarity, batch.same)
    with torch.no_grad():
        got, true = logits > 0, batch.target > 0.5
        iou = (got & true).sum((2, 3)) / (got | true).sum((2, 3)).clamp(min=1)
        named = batch.same.sum(0) > 0
        hit = batch.same.gather(0, similarity.argmax(0)[None])[0, named].mean()
        figures = {
            "loss": masks + 0.5 * match + contrast,
            "masks": masks,
            "match": match,
            "contrast": contrast,
            "part_iou": iou[:, 0].mean(),
            "object_iou": iou[:, 1].mean(),
            "match_right": ((said > 0) == (means > 0.5)).float().mean(),
            "pick": hit,
        }
    return masks + 0.5 * match + contrast, {name: value.item() for name, value in figures.items()}


class Trainer:
    """The state of one run: network, averaged weights, optimizer, step and seconds trained."""

    def __init__(self, config: TrainConfig, out: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.out, self.texts = config, out, TextPool(config.styles)
        self.sampler = CropSampler(self.texts)
        self.net = MiniAffordanceVLM(config.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: value.clone() for name, value in self.net.state_dict().items()}
        trunk = [p for p in self.net.trunk.parameters() if p.requires_grad]
        rest = [p for name, p in self.net.named_parameters() if not name.startswith("trunk.")]
        self.rates = (config.trunk_lr, 1.0)
        self.optimizer = torch.optim.AdamW(
            [{"params": trunk}, {"params": rest}], lr=config.lr, weight_decay=config.weight_decay
        )
        self.step, self.trained_s = 0, 0.0

    def train_step(self, rows: list[Row], progress: float) -> dict[str, float]:
        """One step at `progress` (0 to 1) of the time."""
        config = self.config
        size = [size for start, size in config.sizes if progress >= start][-1]
        crops = sample_batch(self.sampler, rows, config.crops, size, config.seed, self.step)
        rng = np.random.default_rng([config.seed, self.step, 1])
        batch = collate(crops, sample_bank(self.texts, crops, config.texts, rng))
        warm = min(1.0, (self.step + 1) / config.warmup_steps)
        lr = config.lr * warm * (0.49 * (1 + math.cos(math.pi * progress)) + 0.02)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = lr * rate
        self.net.train()
        loss, figures = step_loss(self.net, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(config.ema, self.step / (self.step + 20))
        for name, value in self.net.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, 1 - keep)
        return figures | {"lr": lr, "size": size}

    def save(self) -> None:
        """Write `model.safetensors` (averaged weights), `raw.safetensors` and `optimizer.pt`, then `state.json` as the
        last: what is on disk is always a whole checkpoint."""
        self.out.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous() for name, value in self.net.state_dict().items()}
        average = {name: value.contiguous() for name, value in self.average.items()}
        _replace(self.out / "raw.safetensors", lambda path: save_file(weights, path))
        _replace(self.out / "optimizer.pt", lambda path: torch.save(self.optimizer.state_dict(), path))
        _replace(self.out / "model.safetensors", lambda path: save_file(average, path))
        state = {"step": self.step, "trained_s": self.trained_s, "config": asdict(self.config)}
        _replace(
            self.out / "config.json", lambda path: path.write_text(json.dumps({"model": self.config.model.as_json()}))
        )
        _replace(self.out / "state.json", lambda path: path.write_text(json.dumps(state, indent=1)))

    def resume(self) -> None:
        """Continue from the checkpoint in `out`."""
        state: dict[str, Any] = json.loads((self.out / "state.json").read_text())
        self.net.load_state_dict(load_file(self.out / "raw.safetensors"))
        self.average = load_file(self.out / "model.safetensors")
        self.optimizer.load_state_dict(torch.load(self.out / "optimizer.pt", weights_only=True))
        self.step, self.trained_s = state["step"], state["trained_s"]

    def start_from(self, run: Path) -> None:
        """Begin with the averaged weights of another run, at step 0."""
        self.net.load_state_dict(load_file(run / "model.safetensors"))
        self.average = {name: value.clone() for name, value in self.net.state_dict().items()}


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    part = path.with_suffix(path.suffix + ".part")
    write(part)
    part.replace(path)


@torch.inference_mode()
def validate(trainer: Trainer, rows: list[Row], steps: int = 12) -> dict[str, float]:
    """Figures of the averaged weights on crops of the validation rows (always the same ones)."""
    config = trainer.config
    net = MiniAffordanceVLM(config.model, pretrained=False).eval()
    net.load_state_dict(trainer.average)
    figures = []
    for step in range(steps):
        crops = sample_batch(trainer.sampler, rows, config.crops, config.sizes[-1][1], 10_000 + config.seed, step)
        bank = sample_bank(trainer.texts, crops, config.texts, np.random.default_rng([config.seed, step, 2]))
        figures.append(step_loss(net, collate(crops, bank))[1])
    return {f"val_{name}": float(np.mean([f[name] for f in figures])) for name in figures[0]}


def run(
    config: TrainConfig,
    data: Path,
    val: Path | None,
    minutes: float,
    out: Path,
    resume: bool,
    init: Path | None = None,
) -> None:
    """Train until `minutes` of training (validation apart) have passed, all resumes together. init: a run to begin
    with."""
    torch.set_num_threads(1)
    trainer = Trainer(config, out)
    if resume:
        trainer.resume()
    elif init is not None:
        trainer.start_from(init)
    out.mkdir(parents=True, exist_ok=True)
    rows = list_rows(data)[:: config.every]
    recent: list[dict[str, float]] = []
    saved_s = trainer.trained_s
    with (out / "log.jsonl").open("a") as log:

        def note(**figures: Any) -> None:
            line = {k: round(v, 5) if isinstance(v, float) else v for k, v in figures.items()}
            log.write(json.dumps(line) + "\n")
            log.flush()
            print(line, flush=True)

        while trainer.trained_s < minutes * 60:
            started = time.perf_counter()
            if trainer.step % config.relist_steps == 0:
                rows = list_rows(data)[:: config.every]
            recent.append(trainer.train_step(rows, trainer.trained_s / (minutes * 60)))
            trainer.trained_s += time.perf_counter() - started
            if len(recent) == 50:
                mean = {name: float(np.mean([r[name] for r in recent])) for name in recent[0]}
                note(step=trainer.step, trained_s=trainer.trained_s, rows=len(rows), **mean)
                recent = []
            if trainer.trained_s - saved_s > config.save_s:
                trainer.save()
                saved_s = trainer.trained_s
                if val is not None and (held_out := list_rows(val)):
                    note(step=trainer.step, trained_s=trainer.trained_s, **validate(trainer, held_out))
        trainer.save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="training set, may still be growing")
    parser.add_argument("--val", type=Path, help="validation set")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--config", choices=sorted(CONFIGS), default="base")
    parser.add_argument("--init", type=Path, help="run whose weights to begin with")
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    run(CONFIGS[given.config], given.data, given.val, given.minutes, given.out, given.resume, given.init)


if __name__ == "__main__":
    main()
