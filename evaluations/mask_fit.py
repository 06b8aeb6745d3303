"""Fits the grounding tool's pick weights and its confidence on development sets, with development phrases (the test
phrases stay unseen), and writes them into the checkpoint's `config.json`.

The pick is a conditional logit (McFadden 1974): P(proposal) = softmax(weights . voices), weights >= 0, one set of
weights for things the network was trained on and one for others. The confidence is a logistic function of the chosen
mask's traits, fitted to "right thing and part IoU >= 0.5", the presence another, fitted to "what was asked for is in
the picture"; half of the texts ask for something that is not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from affordagent.core.geometry import Array
from affordagent.evaluations.masks import (
    STYLES,
    Setting,
    absent_text,
    judge,
    looks,
    own_proposal,
    query_of,
    spread,
    text_of,
)
from affordagent.finetune.mini_data import list_rows, object_mask
from affordagent.tools.affordance_vlm import DEFAULT_WEIGHTS, VOICES, AffordanceTool

PRIOR = 0.02  # weight of the squared weights


@dataclass(frozen=True)
class Choice:
    """voices: (P, V); trained: how much of the wish the network knows; own: the right proposal."""

    voices: Array
    trained: float
    own: int

    @property
    def features(self) -> Array:
        """(P, 2 V): the voices as far as the network knows the wish, and as far as it does not."""
        return np.concatenate([self.trained * self.voices, (1 - self.trained) * self.voices], axis=1)


def fit_pick(choices: list[Choice]) -> tuple[dict[str, float], dict[str, float]]:
    """Weights of the voices for trained things, and for others."""
    features = [choice.features for choice in choices]

    def loss(weights: Array) -> float:
        logits = [f @ weights for f in features]
        right = [z[c.own] - np.logaddexp.reduce(z) for z, c in zip(logits, choices, strict=True)]
        return -float(np.mean(right)) + PRIOR * float(weights @ weights)

    start = np.full(2 * len(VOICES), 0.3)
    best = np.round(minimize(loss, start, bounds=[(0.0, 5.0)] * len(start)).x, 4).tolist()
    return dict(zip(VOICES, best, strict=False)), dict(zip(VOICES, best[len(VOICES) :], strict=True))


def fit_logistic(traits: list[dict[str, float]], right: list[bool]) -> dict[str, float]:
    """Weights of the traits."""
    names = list(DEFAULT_WEIGHTS)
    x = np.array([[t[name] for name in names] for t in traits])
    sign = np.where(right, 1.0, -1.0)

    def loss(weights: Array) -> float:
        return float(np.logaddexp(0, -sign * (x @ weights)).mean()) + 1e-3 * float(weights @ weights)

    best = minimize(loss, np.zeros(len(names)))
    return dict(zip(names, np.round(best.x, 4).tolist(), strict=True))


def fit(tool: AffordanceTool, data: list[Path], images: int, setting: Setting) -> dict[str, Any]:
    """Fit on at most `images` pictures of each set, write the checkpoint's config, return it with what it scores."""
    seen = [look for folder in data for look in looks(tool, spread(list_rows(folder), images), setting)]
    choices = []
    for row, look, asked, rng in seen:
        labels = row.labels()
        for target in asked:
            own = own_proposal(look.scene, object_mask(labels, target.thing["slot"]))
            for style in STYLES:
                ranking = tool.rank(look, query_of(text_of(target, style, rng, "dev")))
                if own is not None and len(look.scene.proposals) > 1:
                    choices.append(Choice(ranking.voices, ranking.trained, own))
    config = tool.predictor.config
    config["pick"], config["pick_untrained"] = fit_pick(choices)
    traits, right, there = _logistic_trials(tool, seen)
    config["confidence"], config["presence"] = fit_logistic(traits, right), fit_logistic(traits, there)
    path = tool.checkpoint / "config.json"
    path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    weights = np.array([config[kind][voice] for kind in ("pick", "pick_untrained") for voice in VOICES])
    return {
        **config,
        "pick_right": float(np.mean([(c.features @ weights).argmax() == c.own for c in choices])),
        "texts": len(choices),
    }


def _logistic_trials(tool: AffordanceTool, seen: list[Any]) -> tuple[list[dict[str, float]], list[bool], list[bool]]:
    """Traits of the answers to all styles for each target, and for as many things that are not there; whether each is
    right, and whether what was asked for is there."""
    traits, right, there = [], [], []
    for row, look, asked, rng in seen:
        here = {thing["category"] for thing in row.record["objects"]}
        for target in asked:
            for style in STYLES:
                for present in (True, False):
                    text = text_of(target, style, rng, "dev") if present else absent_text(rng, here, style, "dev")[0]
                    trial, _ = judge(tool, row, look, target, style, text)
                    if trial.failure is None:
                        traits.append(trial.traits)
                        right.append(present and trial.right and trial.iou >= 0.5)
                        there.append(present)
    return traits, right, there
