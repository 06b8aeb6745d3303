"""What makes the mini AffordanceVLM work: a query of its own for the part, texts without the name, or more pictures?

    python -m affordagent.evaluations.ablations --data DIR --val DIR --out ablations.jsonl [--steps N] [--seeds 0 1]

Every variant starts from the ImageNet weights and is trained for the same number of small steps on crops of 128 px.
Then it is asked for things in the validation pictures: each is cut out by its true outline, and asked for by the
phrases of development. A finished (variant, seed) is one line of the out file and is not run again. `--table` prints
what it holds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affordagent.core.embedded import text_encoder
from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask, box_of
from affordagent.evaluations.masks import targets
from affordagent.evaluations.statistics import bootstrap_mean
from affordagent.finetune.crops import CropWindow
from affordagent.finetune.mini_data import Row, list_rows, noisy_depth, object_mask, part_mask
from affordagent.finetune.mini_model import MiniAffordanceVLM
from affordagent.finetune.mini_predictor import View
from affordagent.finetune.mini_texts import STYLES
from affordagent.finetune.mini_train import CONFIGS, TrainConfig, Trainer, ask
from affordagent.finetune.phrases import sample_text

BASE = replace(CONFIGS["base"], crops=8, texts=48, sizes=((0.0, 128),), warmup_steps=30)
VARIANTS = {
    "base": BASE,
    "one query for part and whole": replace(BASE, model=replace(BASE.model, queries=1)),
    "templates only": replace(BASE, styles=(1.0, 0.0, 0.0)),
    "templates and easy": replace(BASE, styles=(2 / 3, 1 / 3, 0.0)),
    "1/64 of the pictures": replace(BASE, every=64),
    "1/8 of the pictures": replace(BASE, every=8),
    "1/2 of the pictures": replace(BASE, every=2),
}
SCALE = 1.4  # of the crops that are scored, as when the mini picks
ASKED = 2  # things a picture
THIN = 0.35  # of the object; smaller parts are reported apart, as they are trained on more often


@dataclass(frozen=True)
class Question:
    """thing: index of the crop that is meant; texts: one in each of the STYLES, None where no phrase means it alone."""

    thing: int
    texts: tuple[str | None, ...]
    truth: Mask
    thin: bool


@dataclass(frozen=True)
class Scene:
    """A validation picture, cut: image (P, 3, n, n), geometry (P, 5, n/2, n/2), the window of each crop."""

    image: torch.Tensor
    geometry: torch.Tensor
    windows: list[CropWindow]
    questions: list[Question]


def scene_of(row: Row, size: int, rng: np.random.Generator) -> Scene:
    """Crops of all things of a picture round their true outlines, with noisy depth, and what is asked about them."""
    labels, things = row.labels(), row.visible()
    view = View(row.color(), row.camera, noisy_depth(row.depth_m(), rng), row.plane_camera)
    masks = [object_mask(labels, thing["slot"]) for thing in things]
    windows = [CropWindow.around(box_of(mask), SCALE) for mask in masks]
    cuts = [view.crop(mask, window, size) for mask, window in zip(masks, windows, strict=True)]
    questions = []
    asked = targets(row)
    for number in rng.permutation(len(asked))[:ASKED]:
        thing, ambiguous = asked[number].thing, asked[number].ambiguous
        others = {other["category"] for other in things} - {thing["category"]}
        what = (thing["category"], thing["colour"], thing["part"])
        texts: list[str | None] = []
        for style in STYLES:
            try:
                texts.append(sample_text(rng, *what, ambiguous, "dev", style, others if style == "hard" else ()))
            except ValueError:  # every phrase serves another thing of the picture, too
                texts.append(None)
        thin = thing["part_px"] < THIN * thing["visible_px"]
        questions.append(Question(things.index(thing), tuple(texts), part_mask(labels, thing), thin))
    image, geometry = (torch.from_numpy(np.stack(part)) for part in zip(*cuts, strict=True))
    return Scene(image, geometry, windows, questions)


def scenes_of(rows: list[Row], size: int) -> list[Scene]:
    """The same for every variant."""
    scenes = [scene_of(row, size, np.random.default_rng([7, number])) for number, row in enumerate(rows)]
    return [scene for scene in scenes if scene.questions]


@torch.inference_mode()
def score(net: MiniAffordanceVLM, scenes: list[Scene]) -> dict[str, dict[str, list[Any]]]:
    """For each style: picture (number), right (the CLIP-like head picks the thing), iou (of the part in the thing's own
    crop, over the picture), thin (the part is)."""
    answers: dict[str, dict[str, list[Any]]] = {s: {k: [] for k in ("picture", "right", "iou", "thin")} for s in STYLES}
    encoder = text_encoder()
    for number, scene in enumerate(scenes):
        features = net.encode(scene.image, scene.geometry)
        embedded = net.embed_crops(features)
        asked = [(q, s, text) for q in scene.questions for s, text in zip(STYLES, q.texts, strict=True) if text]
        words = [text for _, _, text in asked]
        alike = net.similarities(embedded, net.embed_texts(torch.from_numpy(encoder.sentences(words))))
        crop = torch.tensor([q.thing for q, _, _ in asked])
        shares = ask(net, features, words, crop, len(words))[0][:, 0].sigmoid().numpy()
        for (question, style, _), share, similar in zip(asked, shares, alike.T, strict=True):
            pasted = scene.windows[question.thing].paste(share, question.truth.shape)
            answer = answers[style]
            answer["picture"].append(number)
            answer["right"].append(int(similar.argmax() == question.thing))
            answer["iou"].append(round(_iou(pasted > 0.5, question.truth), 4))
            answer["thin"].append(int(question.thin))
    return answers


def _iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def train(config: TrainConfig, rows: list[Row], steps: int) -> MiniAffordanceVLM:
    """The network of averaged weights after `steps` steps."""
    trainer = Trainer(config, Path())  # writes nothing
    rows = rows[:: config.every]
    for step in range(steps):
        figures = trainer.train_step(rows, step / steps)
        if (step + 1) % 50 == 0:
            print({name: round(value, 3) for name, value in ({"step": step + 1} | figures).items()}, flush=True)
    net = MiniAffordanceVLM(config.model, pretrained=False).eval()
    net.load_state_dict(trainer.average)
    return net


def finished(out: Path) -> list[dict[str, Any]]:
    """The lines of the out file."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.is_file() else []


def run(
    variants: dict[str, TrainConfig], seeds: list[int], steps: int, data: list[Row], val: list[Row], out: Path
) -> None:
    """Train and score what the out file lacks, all variants of one seed before the next seed.

    Raises:
        AffordAgentError: the out file holds runs of another length or with other phrases, which do not compare.
    """
    scenes: dict[int, list[Scene]] = {}
    phrases = sha256(files("affordagent.finetune").joinpath("phrases.json").read_bytes()).hexdigest()
    for done in finished(out):
        if (done["steps"], done["texts_sha256"]) != (steps, phrases):
            raise AffordAgentError(
                f"{out} holds {done['variant']}, seed {done['seed']}, of {done['steps']} steps with the phrases "
                f"{done['texts_sha256'][:8]}; these are {steps} steps with {phrases[:8]}: give another --out"
            )
    for seed in seeds:
        for name, config in variants.items():
            if any((done["variant"], done["seed"]) == (name, seed) for done in finished(out)):
                continue
            size = config.sizes[-1][1]
            if size not in scenes:
                scenes[size] = scenes_of(val, size)
            print(f"{name}, seed {seed}", flush=True)
            started = time.process_time()
            net = train(replace(config, seed=seed), data, steps)
            trained_s = time.process_time() - started
            answers = score(net, scenes[size])
            scored_s = time.process_time() - started - trained_s
            line = {
                "variant": name,
                "seed": seed,
                "steps": steps,
                "crops_a_step": config.crops,
                "pictures": len(data[:: config.every]),
                "parameters": sum(p.numel() for p in net.parameters()),
                "cpu_s": {"training": round(trained_s, 1), "scoring": round(scored_s, 1)},
                "texts_sha256": phrases,
                "torch": version("torch"),
                "answers": answers,
            }
            with out.open("a") as file:
                file.write(json.dumps(line) + "\n")


MEASURES = ("pick", "part IoU", "thin parts", "gIoU")


def values(answers: dict[str, list[Any]], measure: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One value a question, and the picture it is about. gIoU counts 0 where the wrong thing was picked."""
    right, iou = np.array(answers["right"], float), np.array(answers["iou"], float)
    picture, thin = np.array(answers["picture"]), np.array(answers["thin"], bool)
    if measure == "thin parts":
        return iou[thin], picture[thin]
    return {"pick": right, "part IoU": iou, "gIoU": right * iou}[measure], picture


def table(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown: for each style, the mean over the seeds (lowest to highest seed) and the difference from the base with
    its 95 % bootstrap interval over pictures."""
    names = list(dict.fromkeys(line["variant"] for line in lines))
    for style in STYLES:
        yield f"| {style} | seeds | " + " | ".join(MEASURES) + " |"
        yield "|---|---|" + "---|" * len(MEASURES)
        for name in names:
            runs = {line["seed"]: line["answers"][style] for line in lines if line["variant"] == name}
            base = {line["seed"]: line["answers"][style] for line in lines if line["variant"] == "base"}
            cells = [_cell(runs, base, measure) for measure in MEASURES]
            yield f"| {name} | {len(runs)} | " + " | ".join(cells) + " |"
        yield ""


def _cell(runs: dict[int, dict[str, list[Any]]], base: dict[int, dict[str, list[Any]]], measure: str) -> str:
    means = [float(values(answers, measure)[0].mean()) for answers in runs.values()]
    shown = f"{np.mean(means):.3f} ({min(means):.3f} to {max(means):.3f})"
    both = [seed for seed in runs if seed in base]
    if runs == base or not both:
        return shown
    gains = np.mean([values(runs[seed], measure)[0] - values(base[seed], measure)[0] for seed in both], axis=0)
    picture = values(runs[both[0]], measure)[1]
    clusters = [gains[picture == number].mean() for number in np.unique(picture)]
    mean, low, high = bootstrap_mean(clusters)
    return f"{shown}; {mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="rendered training set")
    parser.add_argument("--val", type=Path, help="rendered validation set")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; what they hold is not run again")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--table", action="store_true", help="only print what the out file holds")
    given = parser.parse_args()
    if not given.table:
        if given.data is None or given.val is None:
            parser.error("--data and --val are needed to train and to score")
        torch.set_num_threads(1)
        chosen = {name: VARIANTS[name] for name in given.variants}
        run(chosen, given.seeds, given.steps, list_rows(given.data), list_rows(given.val), given.out)
    print("\n".join(table(finished(given.out))))


if __name__ == "__main__":
    main()
