"""Things of manipulation tasks rather than of a household: a button, a ball on a stand, a block and a target to slide
it to, a jar and its lid. After RLBench (James et al., RA-L 2020). In no pool of random scenes, in no training picture.
"""

from __future__ import annotations

import numpy as np
import trimesh

from affordagent.robot.sim.objects.model import HouseholdObject, Spring
from affordagent.robot.sim.objects.rest import add_shell
from affordagent.robot.sim.objects.shapes import Rgba, box, cylinder, moved, sample_colour, shell

COLOURS = ("red", "green", "blue", "purple")  # told from every table by their hue
BUTTON_TRAVEL_M, BUTTON_N_M = 0.008, 800.0
CAP, BALL, KNOB = "cap", "ball", "knob"
TARGET_THICK_M = 0.0006
_GREY: Rgba = (0.45, 0.45, 0.47, 1.0)
_JAR_WALL_M = 0.004
_LID_OVER_M, _LID_THICK_M = 0.004, 0.008  # how far it stands out over the jar; of its disc


def button(rng: np.random.Generator, colour: str) -> HouseholdObject:
    """A coloured cap on a spring, on a grey base that is screwed to the table."""
    side_m, height_m, cap_m = rng.uniform(0.07, 0.09), rng.uniform(0.018, 0.03), rng.uniform(0.018, 0.024)
    _, rgba = sample_colour(rng, [colour])
    obj = HouseholdObject("button", CAP, colour, {"side_m": side_m, "cap_radius_m": cap_m}, fixed=True)
    obj.add_visual("base", box((side_m, side_m, height_m), (0, 0, height_m / 2)), _GREY, "plastic")
    obj.add_collider("base", "box", (side_m / 2, side_m / 2, height_m / 2), (0, 0, height_m / 2))
    high_m = 0.016
    middle = (0, 0, height_m + high_m / 2 - 0.004)
    obj.add_visual(CAP, moved(cylinder(cap_m, high_m), middle), rgba, "plastic")
    top_m = 0.5 * (high_m - BUTTON_TRAVEL_M)  # the collider ends above the base when it is pressed
    obj.add_collider(CAP, "cylinder", (cap_m, top_m / 2), (0, 0, height_m + high_m - 0.004 - top_m / 2), mass_kg=0.02)
    obj.springs[CAP] = Spring(BUTTON_TRAVEL_M, BUTTON_N_M)
    return obj


def ball_on_stand(rng: np.random.Generator, colour: str) -> HouseholdObject:
    """A ball of 4 cm on a thin stand. Nothing of it is solid but the stand's foot: as in RLBench, the hand may be where
    the ball is."""
    radius_m, height_m = 0.02, rng.uniform(0.05, 0.16)
    _, rgba = sample_colour(rng, [colour])
    obj = HouseholdObject("ball", BALL, colour, {"radius_m": radius_m, "height_m": height_m}, fixed=True)
    obj.add_visual("stand", cylinder(0.025, 0.006, (0, 0, 0.003)), _GREY, "plastic")
    obj.add_visual("stand", cylinder(0.006, height_m - radius_m, (0, 0, (height_m - radius_m) / 2)), _GREY, "plastic")
    obj.add_collider("stand", "cylinder", (0.025, 0.003), (0, 0, 0.003))
    obj.add_visual(BALL, moved(trimesh.creation.icosphere(3, radius_m), (0, 0, height_m)), rgba, "plastic")
    return obj


def block(rng: np.random.Generator, colour: str) -> HouseholdObject:
    """A wooden block, 5 to 7 cm wide, 3.5 to 5 cm high, painted."""
    x_m, y_m, z_m = rng.uniform(0.05, 0.07), rng.uniform(0.05, 0.07), rng.uniform(0.035, 0.05)
    _, rgba = sample_colour(rng, [colour])
    obj = HouseholdObject("block", "body", colour, {"x_m": x_m, "y_m": y_m, "z_m": z_m})
    obj.add_visual("body", box((x_m, y_m, z_m), (0, 0, z_m / 2)), rgba, "plastic")
    obj.add_collider("body", "box", (x_m / 2, y_m / 2, z_m / 2), (0, 0, z_m / 2), mass_kg=650 * x_m * y_m * z_m)
    return obj


def target(rng: np.random.Generator, colour: str) -> HouseholdObject:
    """A square of coloured film on the table, 12 cm; things slide over it."""
    side_m = 0.12
    _, rgba = sample_colour(rng, [colour])
    obj = HouseholdObject("target", "body", colour, {"side_m": side_m}, fixed=True)
    obj.add_visual("body", box((side_m, side_m, TARGET_THICK_M), (0, 0, TARGET_THICK_M / 2)), rgba, "paper")
    return obj


def jar(rng: np.random.Generator, colour: str) -> HouseholdObject:
    """A round jar, open above."""
    radius_m, height_m = rng.uniform(0.032, 0.04), rng.uniform(0.07, 0.1)
    _, rgba = sample_colour(rng, [colour])
    obj = HouseholdObject("jar", "body", colour, {"radius_m": radius_m, "height_m": height_m})
    profile = [[radius_m, 0.0], [radius_m, height_m]]
    obj.add_visual("body", shell([[0.0, 0.0], *profile], _JAR_WALL_M), rgba, "ceramic")
    add_shell(obj, "body", profile, _JAR_WALL_M, 16, 0.6)
    return obj


def lid(rng: np.random.Generator, jar_radius_m: float) -> HouseholdObject:
    """A disc with a knob that lies on the rim of a jar; it has no thread."""
    radius_m = jar_radius_m + _LID_OVER_M
    name, rgba = sample_colour(rng, ["white", "grey"])
    obj = HouseholdObject("lid", KNOB, name, {"radius_m": radius_m})
    obj.add_visual("body", cylinder(radius_m, _LID_THICK_M, (0, 0, _LID_THICK_M / 2)), rgba, "ceramic")
    obj.add_collider("body", "cylinder", (radius_m, _LID_THICK_M / 2), (0, 0, _LID_THICK_M / 2), mass_kg=0.05)
    knob_m, high_m = rng.uniform(0.014, 0.017), rng.uniform(0.02, 0.026)
    middle = (0, 0, _LID_THICK_M + high_m / 2)
    obj.add_visual(KNOB, cylinder(knob_m, high_m, middle), rgba, "ceramic")
    obj.add_collider(KNOB, "cylinder", (knob_m, high_m / 2), middle, mass_kg=0.02)
    return obj
