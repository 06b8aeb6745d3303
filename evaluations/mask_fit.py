"""Fits the grounding tool's pick weights and its confidence on the validation set, with training phrases (the test
phrases stay unseen), and writes them into the checkpoint's `config.json`.

The pick is a conditional logit (McFadden 1974): P(proposal) = softmax(weights . voices), weights >= 0. The confidence
is a logistic function of the chosen mask's traits, fitted to "right thing and part IoU >= 0.5"; a quarter of the texts
ask for a category that is not in the picture, and count as wrong.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from affordagent.core.geometry import Array
from affordagent.evaluations.masks import STYLES, Setting, judge, looks, own_proposal, query_of, spread, text_of
from affordagent.finetune.mini_data import list_rows, object_mask
from affordagent.finetune.phrases import phrases, sample_text
from affordagent.tools.affordance_vlm import DEFAULT_CONFIDENCE, VOICES, AffordanceTool

ABSENT = 0.25
PRIOR = 0.02  # weight of the squared weights


def fit_pick(choices: list[tuple[Array, int]]) -> dict[str, float]:
    """Weights of the voices from (voices (P, V), right proposal) of many texts."""

    def loss(weights: Array) -> float:
        logits = [voices @ weights for voices, _ in choices]
        right = [z[own] - np.logaddexp.reduce(z) for z, (_, own) in zip(logits, choices, strict=True)]
        return -float(np.mean(right)) + PRIOR * float(weights @ weights)

    start = np.full(len(VOICES), 0.3)
    best = minimize(loss, start, bounds=[(0.0, 5.0)] * len(VOICES))
    return dict(zip(VOICES, np.round(best.x, 4).tolist(), strict=True))


def fit_confidence(traits: list[dict[str, float]], right: list[bool]) -> dict[str, float]:
    """Logistic weights of the traits."""
    names = list(DEFAULT_CONFIDENCE)
    x = np.array([[t[name] for name in names] for t in traits])
    sign = np.where(right, 1.0, -1.0)

    def loss(weights: Array) -> float:
        return float(np.logaddexp(0, -sign * (x @ weights)).mean()) + 1e-3 * float(weights @ weights)

    best = minimize(loss, np.zeros(len(names)))
    return dict(zip(names, np.round(best.x, 4).tolist(), strict=True))


def fit(tool: AffordanceTool, data: Path, images: int, setting: Setting) -> dict[str, Any]:
    """Both fits; returns what was written and how well it does on the data it was fitted to."""
    rows = spread(list_rows(data), images)
    choices: list[tuple[Array, int]] = []
    for row, look, asked, rng in looks(tool, rows, setting):
        labels = row.labels()
        for target in asked:
            own = own_proposal(look.scene, object_mask(labels, target.thing["slot"]))
            for style in STYLES:
                query = query_of(text_of(target, style, rng, "train"))
                if own is not None and len(look.scene.proposals) > 1:
                    choices.append((tool.rank(look, query).voices, own))
    tool.predictor.config["pick"] = fit_pick(choices)
    traits, right = _confidence_trials(tool, data, images, setting)
    tool.predictor.config["confidence"] = fit_confidence(traits, right)
    path = tool.checkpoint / "config.json"
    path.write_text(json.dumps(tool.predictor.config, indent=1) + "\n", encoding="utf-8")
    weights = np.array([tool.predictor.config["pick"][voice] for voice in VOICES])
    alone = {v: float(np.mean([c[:, i].argmax() == own for c, own in choices])) for i, v in enumerate(VOICES)}
    together = float(np.mean([(c @ weights).argmax() == own for c, own in choices]))
    return {**tool.predictor.config, "pick_alone": alone, "pick_together": together, "texts": len(choices)}


def _confidence_trials(
    tool: AffordanceTool, data: Path, images: int, setting: Setting
) -> tuple[list[dict[str, float]], list[bool]]:
    traits, right = [], []
    for row, look, asked, rng in looks(tool, spread(list_rows(data), images), setting):
        for target in asked:
            style = STYLES[int(rng.integers(len(STYLES)))]
            here = {thing["category"] for thing in row.record["objects"]}
            absent = sorted(set(phrases()["train"]) - here)
            if rng.random() < ABSENT:
                text = sample_text(rng, str(rng.choice(absent)), "red", None, False, "train", style)
                trial, _ = judge(tool, row, look, target, style, text)
                good = False
            else:
                trial, _ = judge(tool, row, look, target, style, text_of(target, style, rng, "train"))
                good = trial.right and trial.iou >= 0.5
            if trial.failure is None:
                traits.append(trial.traits)
                right.append(good)
    return traits, right
