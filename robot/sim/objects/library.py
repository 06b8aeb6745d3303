"""Every category by its name: those of the simulated cell, those for training only, those never trained on."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import numpy as np

from affordagent.robot.sim.objects.containers import CONTAINERS
from affordagent.robot.sim.objects.extra_kitchen import EXTRA_KITCHEN
from affordagent.robot.sim.objects.extra_things import EXTRA_THINGS
from affordagent.robot.sim.objects.extra_vessels import EXTRA_VESSELS
from affordagent.robot.sim.objects.hand_tools import HAND_TOOLS, HELD_OUT_TOOLS
from affordagent.robot.sim.objects.held_out import HELD_OUT_MORE
from affordagent.robot.sim.objects.kitchen import HELD_OUT_KITCHEN, KITCHEN
from affordagent.robot.sim.objects.model import HouseholdObject
from affordagent.robot.sim.objects.whole import WHOLE

Maker = Callable[[np.random.Generator], HouseholdObject]

# the categories of the HANDAL data set (Guo et al., IROS 2023)
HANDAL: tuple[str, ...] = (
    "strainer",
    "fixed joint pliers",
    "slip joint pliers",
    "locking pliers",
    "hammer",
    "ladle",
    "whisk",
    "measuring cup",
    "power drill",
    "adjustable wrench",
    "combination wrench",
    "mug",
    "ratchet",
    "utensil",
    "pot or pan",
    "spatula",
    "screwdriver",
)

CATEGORIES: dict[str, Maker] = {**HAND_TOOLS, **KITCHEN, **WHOLE}
HELD_OUT: dict[str, Maker] = {**HELD_OUT_TOOLS, **HELD_OUT_KITCHEN, **HELD_OUT_MORE}
# variety for the training pictures: in no scene of the cell and no entry of the catalogue
EXTRA: dict[str, Maker] = {**EXTRA_KITCHEN, **EXTRA_VESSELS, **EXTRA_THINGS}


def make(category: str, seed: int | Sequence[int] | np.random.SeedSequence) -> HouseholdObject:
    """The instance of a category that `seed` names; equal seeds give equal objects.

    Raises:
        ValueError: no such category.
    """
    makers = CATEGORIES | EXTRA | HELD_OUT | CONTAINERS
    if category not in makers:
        close = difflib.get_close_matches(category.lower(), makers, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(sorted(makers))}"
        raise ValueError(f"no object category {category!r}; {hint}")
    return makers[category](np.random.default_rng(seed))
