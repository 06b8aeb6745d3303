"""Grounding without training: what stands on the table, named by its looks and its size, its part by its shape.

Works offline on any noun, on pictures nobody trained on; the trained grounder is better on the categories it knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affordagent.core.embedded import lite0_classifier, text_encoder
from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import FunctionalQuery, Mask, ObjectProposal, PartMask, RgbdFrame, TableScene
from affordagent.tools import appearance
from affordagent.tools.attributes import attribute_factors
from affordagent.tools.part_geometry import has_depth, part_by_geometry, plan_view
from affordagent.tools.sizes import size_likelihoods
from affordagent.tools.vocabulary import Wish, known_things, wish_of

ABSENT_BELOW = 0.25  # confidence under which the thing is judged not to be there
WHOLE_INSTEAD = 0.5  # what remains of the confidence when the part was not found and the whole is given
# Logistic calibration of [1, log-odds of the score]: 1351 names asked of development pictures with depth noise, trained
# things and never-trained ones, two thirds of them wrong or for things that are not there.
CALIBRATION = (2.38, 0.72)


@dataclass(frozen=True)
class TabletopTool:
    """Proposal x looks x size x attributes, then the part by geometry. Stateless; models load on first use."""

    name: str = "tabletop"

    def load(self) -> None:
        """Load the models now rather than with the first question."""
        text_encoder()
        lite0_classifier()
        appearance.known_likenesses()

    def find(self, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> list[PartMask]:
        """All proposals, best first, each with the asked part.

        `evidence` of each: proposal (id), posterior, share (of all proposals), looks_like (best known names),
        attributes_ignored, part ("found", "whole object", "not found by shape: whole object"), absent (the judgement
        that nothing here fits), shares (of all proposals).

        Raises:
            StageFailure: ("ground", "grounding.not_found") when the scene has no proposals.
        """
        if not scene.proposals:
            raise StageFailure("ground", "grounding.not_found", "nothing stands on the table: put the object into view")
        dimensions_m = dimensions_of(frame, scene)
        classes = appearance.class_posterior(frame, scene.proposals)
        wish = wish_of(query)
        posterior, names = object_posterior(classes, dimensions_m, wish)
        fits = wanted_share(posterior, names, wish)  # (P,)
        rivals = fits >= 0.4 * fits.max()
        factor, ignored = attribute_factors(frame, scene.proposals, dimensions_m, rivals, query.attributes)
        scores = fits * factor
        order = np.argsort(-scores)
        best_confidence = confidence(float(scores[order[0]]))
        found = []
        for i in order:
            proposal = scene.proposals[i]
            mask, how = self._part(frame, scene, proposal, query)
            sure = confidence(float(scores[i])) * (WHOLE_INSTEAD if how.startswith("not found") else 1.0)
            evidence: dict[str, Any] = {
                "proposal": proposal.id,
                "posterior": round(float(fits[i]), 4),
                "share": round(float(scores[i] / max(scores.sum(), 1e-9)), 4),
                "looks_like": {names[k]: round(float(posterior[i, k]), 3) for k in np.argsort(-posterior[i])[:3]},
                "attributes_ignored": ignored,
                "part": how,
                "absent": best_confidence < ABSENT_BELOW,
                "shares": {
                    str(p.id): round(float(s / max(scores.sum(), 1e-9)), 4)
                    for p, s in zip(scene.proposals, scores, strict=True)
                },
            }
            found.append(PartMask(mask, proposal.mask | mask, round(sure, 4), self.name, evidence))
        return found

    def _part(
        self, frame: RgbdFrame, scene: TableScene, proposal: ObjectProposal, query: FunctionalQuery
    ) -> tuple[Mask, str]:
        if query.part is None:
            return proposal.mask, "whole object"
        mask = part_by_geometry(frame, scene, proposal, query.part, query.category)
        if mask is None:
            return proposal.mask, "not found by shape: whole object"
        return mask, "found"


def object_posterior(
    classes: NDArray[np.float32], dimensions_m: Array, wish: Wish
) -> tuple[NDArray[np.float64], list[str]]:
    """(P, N) probability of each of N things for each proposal, from its (P, C) ImageNet posterior and (P, 3) size, and
    the things' names: all known ones, then those of the wish that are not known. Rows add up to 1."""
    others = tuple(name for name in wish.names if name not in known_things())
    names = [*known_things(), *others]
    looks = appearance.thing_posterior(classes, others)
    joint = np.maximum(looks, 1e-5) * np.maximum(size_likelihoods(names, dimensions_m), 1e-6)
    return joint / joint.sum(1, keepdims=True), names


def wanted_share(posterior: NDArray[np.float64], names: list[str], wish: Wish) -> Array:
    """(P,) probability that each proposal is what is wished for."""
    return posterior[:, [names.index(name) for name in wish.names]] @ wish.weights


def confidence(score: float) -> float:
    """Probability that a proposal with this score is the right one."""
    p = float(np.clip(score, 1e-4, 1 - 1e-4))
    a, b = CALIBRATION
    return float(1 / (1 + np.exp(-(a + b * np.log(p / (1 - p))))))


def dimensions_of(frame: RgbdFrame, scene: TableScene) -> Array:
    """(P, 3) length, width and height of the proposals, metres; NaN for those without any depth."""
    dimensions_m = np.full((len(scene.proposals), 3), np.nan)
    for row, proposal in zip(dimensions_m, scene.proposals, strict=True):
        if has_depth(frame, proposal):
            view = plan_view(frame, scene, proposal)
            row[:] = view.length_m, view.width_m, view.height_m
    return dimensions_m
