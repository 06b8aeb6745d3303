"""The trained grounding tool: which thing do the words mean, and where on it is the part to hold?

The small AffordanceVLM compares every proposal with the person's text and with the names of all candidates; ImageNet
knowledge with the size, colour and position words speak too. How much each voice weighs depends on whether the network
was trained on what is wished for. The weights of the voices and of the confidence were fitted on development sets
(`python -m affordagent.evaluations.masks --fit`) and lie in the checkpoint's `config.json`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.catalogue import catalogue
from affordagent.core.embedded import lite0_classifier, text_encoder
from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.lexicon import lexicon
from affordagent.core.types import FunctionalQuery, Mask, ObjectProposal, PartMask, RgbdFrame, TableScene
from affordagent.finetune.mini_texts import PART_QUERY
from affordagent.tools.appearance import known_likenesses
from affordagent.tools.attributes import attribute_factors
from affordagent.tools.part_geometry import HANDLES, RIMS, part_by_geometry
from affordagent.tools.tabletop import dimensions_of, object_posterior, wanted_share
from affordagent.tools.vocabulary import Wish, known_things, wish_of

if TYPE_CHECKING:
    from affordagent.finetune.mini_model import Features
    from affordagent.finetune.mini_predictor import MiniPredictor, View

TOOL = "affordance_vlm"
SHIPPED_CHECKPOINT = Path(__file__).parents[1] / "finetune" / "checkpoints" / "mini"
# Who speaks on the pick: the network on the person's text, on the names, on the names against those of all categories;
# ImageNet knowledge with the size; colour, place and size words.
VOICES = ("own_words", "names", "among", "looks", "attributes")
DEFAULT_PICK = {"own_words": 0.4, "names": 0.6, "among": 0.3, "looks": 0.7, "attributes": 0.6}
DEFAULT_PICK_UNTRAINED = {"own_words": 0.1, "names": 0.1, "among": 0.0, "looks": 1.0, "attributes": 0.6}
# Traits of an answer and their logistic weights: how sure is it that the mask is right, and that the thing is there?
DEFAULT_WEIGHTS = {
    "bias": -0.8,
    "untrained": 0.0,  # how much of the wish the network was not trained on
    "log_share": 0.3,  # of the chosen proposal
    "level": 0.4,  # logit of the names, as far as they are trained
    "among": 0.3,  # the same against all other names
    "looks": 0.3,
    "untrained_looks": 0.0,
    "own_words": 0.0,
    "untrained_own_words": 0.0,
    "named": 0.0,  # is there a noun?
    "first": 0.0,  # weight of the likeliest name
    "certainty": 1.7,  # of the mask's pixels
    "overlap": 0.0,  # of the object's mask and its proposal
}
LEAST_LOOKS = 0.001  # what ImageNet knowledge grants anything: less than the chance share of the known things
OUT_OF_THE_RACE = 0.01  # share of the best one's by the network alone, below which ImageNet is not asked
PLAUSIBLE = 0.15  # share of the best one's
OTHER_PART_FACTOR = 0.7  # on the confidence, when another part is wanted than the one that was learned
MIN_PART_PX = 25
LEAST_PART = 0.05  # of the object, for a part nobody asked for
DOUBTFUL = 0.25  # probability from which pixels count where none reaches 0.5
WHOLE = ("body", "middle", "side")  # parts that mean a thing held anywhere


@dataclass(frozen=True)
class Look:
    """What is seen before any words. features: the network's, of all proposals; dimensions_m: (P, 3) length, width,
    height; classes: (C,) ImageNet posterior of the proposals (by index) that it was asked for."""

    frame: RgbdFrame
    scene: TableScene
    view: View
    features: Features
    dimensions_m: Array
    classes: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def classes_of(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """(len(indices), C), each computed once."""
        from affordagent.tools.appearance import class_posterior

        new = [i for i in indices if i not in self.classes]
        if new:
            found = class_posterior(self.frame, [self.scene.proposals[i] for i in new])
            self.classes.update(zip(new, found, strict=True))
        return np.stack([self.classes[i] for i in indices])


@dataclass(frozen=True)
class Ranking:
    """voices: (P, len(VOICES)); share: (P,), adds up to 1; level: (P,) logit of the names by the CLIP-like head; text:
    what the part is asked for by; trained: how much of the wish the network was trained on, first: the weight of its
    likeliest name, both 0 to 1."""

    voices: Array
    share: Array
    level: Array
    text: str
    trained: float
    first: float


def phrases_of(query: FunctionalQuery, wish: Wish) -> list[str]:
    """'the {colour} {name}' for every name of the wish; a whole text stays as it is."""
    colour = query.attributes.get("colour")
    if wish.names == (query.text,):
        return [query.text]
    return [f"the {colour} {name}" if colour else f"the {name}" for name in wish.names]


class AffordanceTool:
    """Finds the part to hold with the checkpoint in a folder (default: the shipped one), loaded on first use."""

    def __init__(self, checkpoint: Path = SHIPPED_CHECKPOINT) -> None:
        self.checkpoint = checkpoint

    @cached_property
    def predictor(self) -> MiniPredictor:
        from affordagent.finetune.mini_predictor import MiniPredictor

        return MiniPredictor(self.checkpoint)

    @cached_property
    def weights(self) -> str:
        """Which checkpoint: the beginning of the SHA-256 of its config.json, which holds the fitted weights."""
        return hashlib.sha256((self.checkpoint / "config.json").read_bytes()).hexdigest()[:12]

    def load(self) -> None:
        """Load the models now rather than with the first question."""
        _ = self.predictor
        text_encoder()
        lite0_classifier()
        known_likenesses()

    def find(self, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> list[PartMask]:
        """Masks of the part, the choice first, then the runner-up where it is plausible.

        Raises:
            StageFailure: ("ground", grounding.not_found) without proposals, grounding.empty_mask when the network sees
                no such part on the chosen thing.
        """
        if not scene.proposals:
            raise StageFailure(
                "ground", "grounding.not_found", "nothing stands on the table; put the thing into view", proposals=0
            )
        look = self.look(frame, scene)
        ranking = self.rank(look, query)
        order = np.argsort(-ranking.share)
        found = [self.part(look, query, ranking, int(order[0]))]
        for index in order[1:2]:
            if ranking.share[index] > PLAUSIBLE * ranking.share[order[0]]:
                try:
                    found.append(self.part(look, query, ranking, int(index)))
                except StageFailure:  # a runner-up without such a part is none
                    continue
        return found

    def look(self, frame: RgbdFrame, scene: TableScene) -> Look:
        """What is seen of the proposals, before any words."""
        from affordagent.finetune.mini_predictor import View

        has_depth = bool((frame.depth_m > 0).any())
        view = View(frame.color, frame.camera, frame.depth_m if has_depth else None, scene.plane_camera)
        features = self.predictor.look(view, [p.mask for p in scene.proposals])
        return Look(frame, scene, view, features, dimensions_of(frame, scene))

    def rank(self, look: Look, query: FunctionalQuery) -> Ranking:
        """How well each proposal fits the words."""
        wish = wish_of(query)
        phrases = phrases_of(query, wish)
        trained = float(sum(w for name, w in zip(wish.names, wish.weights, strict=True) if self.knows(name)))
        weights = self._weights(trained)
        voices, level = self._network_voices(look, query, wish, phrases)
        share = _softmax(voices @ weights)
        race = np.flatnonzero(share >= OUT_OF_THE_RACE * share.max()).tolist()
        posterior, names = object_posterior(look.classes_of(race), look.dimensions_m[race], wish)
        looks = np.full(len(share), np.log(LEAST_LOOKS))
        looks[race] = np.log(wanted_share(posterior, names, wish) + LEAST_LOOKS)
        voices[:, VOICES.index("looks")] = looks
        share = _softmax(voices @ weights)
        if query.attributes:
            rivals = share > PLAUSIBLE * share.max()
            proposals = look.scene.proposals
            factors, _ = attribute_factors(look.frame, proposals, look.dimensions_m, rivals, query.attributes)
            voices[:, VOICES.index("attributes")] = np.log(factors)
            share = _softmax(voices @ weights)
        text = phrases[int(wish.weights.argmax())] if trained > 0.5 else PART_QUERY
        return Ranking(voices, share, level, text, trained, float(wish.weights.max()))

    def knows(self, name: str) -> bool:
        """Was the network trained on things of that name?"""
        trained = self.predictor.config.get("things", list(catalogue()))
        return name in trained or any(word in trained for word in known_things().get(name, ()))

    def _weights(self, trained: float) -> Array:
        """(len(VOICES),) between those for things the network was trained on and those for others."""
        ours = self.predictor.config.get("pick", DEFAULT_PICK)
        others = self.predictor.config.get("pick_untrained", DEFAULT_PICK_UNTRAINED)
        return np.array([trained * ours[voice] + (1 - trained) * others[voice] for voice in VOICES])

    def _network_voices(
        self, look: Look, query: FunctionalQuery, wish: Wish, phrases: list[str]
    ) -> tuple[Array, Array]:
        """(P, len(VOICES)) logarithms of how well each proposal fits, the network's voices only, the others left at
        0; and (P,) the logit of the names."""
        known = [f"the {name}" for name in catalogue()]
        logits = self.predictor.compare(look.features, [query.text, *phrases, *known])
        named = logits[:, 1 : 1 + len(phrases)] + np.log(wish.weights)
        level = _log_sum(named)
        anything = _log_sum(np.concatenate([logits[:, 1 + len(phrases) :], level[:, None]], axis=1))
        nothing = np.zeros(len(level))
        voices = [_log_sigmoid(logits[:, 0]), _log_sigmoid(level), level - anything, nothing, nothing]
        return np.stack(voices, axis=1), level

    def part(self, look: Look, query: FunctionalQuery, ranking: Ranking, index: int) -> PartMask:
        """The masks on the proposal of that index.

        Raises:
            StageFailure: ("ground", grounding.empty_mask).
        """
        proposal = look.scene.proposals[index]
        part_share, object_share = self.predictor.masks(look.view, proposal.mask, ranking.text)
        whole = largest_pieces(object_share > 0.5)
        learned = largest_pieces((part_share > 0.5) & grown(whole))
        if learned.sum() < MIN_PART_PX:
            learned = largest_pieces((part_share > DOUBTFUL) & grown(whole))
        mask, how, factor = _wanted(look, proposal, query, learned, whole)
        if mask.sum() < MIN_PART_PX:
            raise StageFailure(
                "ground",
                "grounding.empty_mask",
                f"{int(mask.sum())} pixels of the {query.part or 'part to hold'} are seen on the thing, at least "
                f"{MIN_PART_PX} are needed: turn it so that the part is in view, or bring the camera nearer",
                part_px=int(mask.sum()),
            )
        sure = part_share if how == "learned" else object_share
        overlap = float((whole & proposal.mask).sum() / max((whole | proposal.mask).sum(), 1))
        untrained = 1 - ranking.trained
        own_words, _, among, looks, _ = ranking.voices[index].tolist()
        traits = {
            "bias": 1.0,
            "untrained": untrained,
            "log_share": float(np.log(ranking.share[index] + 1e-4)),
            "level": ranking.trained * float(ranking.level[index]),
            "among": ranking.trained * among,
            "looks": looks,
            "untrained_looks": untrained * looks,
            "own_words": own_words,
            "untrained_own_words": untrained * own_words,
            "named": float(query.object_words is not None),
            "first": ranking.first,
            "certainty": float(sure[mask].mean()),
            "overlap": overlap,
        }
        confidence, presence = factor * self._probability("confidence", traits), self._probability("presence", traits)
        proposals = look.scene.proposals
        evidence = {
            "weights": self.weights,
            "proposal": proposal.id,
            "shares": {str(p.id): round(float(s), 4) for p, s in zip(proposals, ranking.share, strict=True)},
            "voices": dict(zip(VOICES, np.round(ranking.voices[index], 3).tolist(), strict=True)),
            "asked_for": ranking.text,
            "part_from": how,
            "traits": {name: round(value, 4) for name, value in traits.items()},
        }
        return PartMask(mask, whole | mask, confidence, TOOL, evidence, presence)

    def _probability(self, kind: str, traits: dict[str, float]) -> float:
        weights = self.predictor.config.get(kind, DEFAULT_WEIGHTS)
        return float(1 / (1 + np.exp(-sum(weights[name] * value for name, value in traits.items()))))


def _wanted(
    look: Look, proposal: ObjectProposal, query: FunctionalQuery, learned: Mask, whole: Mask
) -> tuple[Mask, str, float]:
    """(mask of the wanted part, where it comes from, factor on the confidence)."""
    known = catalogue().get(query.category or "")
    held, wanted = None if known is None else known.part, query.part
    if wanted is None and _held_anywhere(query):
        return whole, "whole object", 1.0
    seen = learned.sum() >= max(MIN_PART_PX, LEAST_PART * whole.sum())
    if wanted is None:
        return (learned, "learned", 1.0) if seen else (whole, "whole object", 1.0)
    if wanted == held or (wanted in HANDLES and (known is None or held in HANDLES)):
        return learned, "learned", 1.0
    if known is not None and held is None and wanted in WHOLE:
        return learned, "learned", 1.0
    if wanted in RIMS:
        rim = part_by_geometry(look.frame, look.scene, proposal, wanted, query.category)
        if rim is not None:
            return rim & whole, "geometry", OTHER_PART_FACTOR
    rest = largest_pieces(whole & ~grown(learned))
    if rest.sum() >= MIN_PART_PX and learned.sum() < 0.9 * whole.sum():
        return rest, "object without the learned part", OTHER_PART_FACTOR
    return whole, "whole object", OTHER_PART_FACTOR


def _held_anywhere(query: FunctionalQuery) -> bool:
    """Is the likeliest candidate a thing of the lexicon without a part to hold? The network, which has not learned such
    things, would look for a handle on them."""
    thing = lexicon().get(query.candidates[0].name) if query.candidates else None
    return thing is not None and thing.part is None


def grown(mask: Mask) -> Mask:
    """The mask and its rim of one pixel."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def largest_pieces(mask: Mask, share: float = 0.2) -> Mask:
    """The mask's largest connected piece and those at least `share` as large."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return mask
    area = stats[1:, cv2.CC_STAT_AREA]
    return np.isin(pieces, 1 + np.flatnonzero(area >= share * area.max()))


def _log_sigmoid(x: Array) -> Array:
    return -np.logaddexp(0, -x)


def _log_sum(x: Array) -> Array:
    """(P, N) -> (P,) log of the sum of exponentials."""
    return np.logaddexp.reduce(x, axis=1)


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return e / e.sum()
