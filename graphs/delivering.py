"""What becomes of the object once it is held: where it is to be put, or how it is handed over."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.types import Delivery, DeliveryGoal, Destination, FunctionalQuery, GraspPlan, PartMask
from affordagent.graphs.state import Done, GraspState, Workbench
from affordagent.robot.arms import ArmName
from affordagent.robot.interface import ArmState
from affordagent.tools import delivery, destination, handle_free


def find_destination(bench: Workbench, state: GraspState) -> Done:
    """The thing to put the object into, onto or beside. Blank masks stand for the table."""
    there = bench.store.get("query").destination
    if there.words == delivery.TABLE:
        blank = np.zeros(bench.store.get("frame").depth_m.shape, bool)
        bench.store.put("destination", PartMask(blank, blank, 1.0, "table"))
        return Done("destination: anywhere free on the table", {"tool": "table"})
    found = _look_for(bench, there)
    bench.store.put("destination", found)
    evidence = {"tool": found.tool, "confidence": found.confidence, **found.evidence}
    return Done(f"destination: the {there.words}, by {found.tool}, {int(found.mask.sum())} px", evidence)


def _look_for(bench: Workbench, there: Destination) -> PartMask:
    frame, table, own = (bench.store.get(name) for name in ("frame", "table", "part_mask"))
    if there.relation == "in" or destination.is_container(there):
        found = destination.find_container(frame, table, there, own.object_mask, bench.limits.table_z_m)
        if found is not None:
            return found
    if there.relation == "in":
        message = f"I see no {there.words} that is open above: put it into view, or turn its opening up"
        raise StageFailure("ground", "grounding.not_found", message)
    query = destination.query_of(there)
    found = None
    for tool in (bench.grounder, bench.fallback):
        try:
            answer = destination.not_own(tool.find(frame, table, query), own.object_mask)
        except StageFailure as failure:
            if not failure.code.startswith("grounding."):
                raise
            continue
        if answer is not None and (found is None or answer.confidence > found.confidence):
            found = replace(answer, mask=answer.object_mask)
        if found is not None and found.confidence >= bench.sure_above:
            return found
    if found is None or found.is_there < bench.present_above:
        seen = ""
        if found is not None:
            seen = f": the best match is there with probability {found.is_there:.2f}, needed {bench.present_above:.2f}"
        message = f"I see no {there.words}{seen}. Name it otherwise, or put it into view"
        raise StageFailure("ground", "grounding.not_found", message)
    return found


def delivery_goal(bench: Workbench) -> DeliveryGoal | None:
    """Where the object is to go; None when it is only picked up."""
    query: FunctionalQuery = bench.store.get("query")
    cloud, frame = bench.store.get("cloud"), bench.store.get("frame")
    if query.intent == "hand_over":
        try:
            bench.hand_over.check(bench.limits)
        except ValueError as error:
            raise StageFailure("plan", "planning.no_delivery", f"[hand_over] {error}") from error
        return delivery.hand_over_goal(cloud, bench.hand_over, handle_free.is_free(bench.store.get("part_mask")))
    if query.destination is None:
        return None
    if query.destination.relation == "back":
        return delivery.put_back_goal()
    there = bench.store.get("destination").object_mask
    points = destination.base_points(frame, there) if there.any() else np.empty((0, 3))
    return delivery.place_goal(
        cloud, query.destination, points, destination.bare_table(frame, bench.store.get("table"))
    )


def check_can_feel(state: ArmState) -> None:
    """Before anything is held out: would it be noticed that a person takes it?

    Raises:
        StageFailure: ("plan", "planning.no_delivery"): neither the arm nor the gripper would.
    """
    if state.tcp_force_n is None and state.holding is None and math.isnan(state.gripper_width_m):
        raise StageFailure(
            "plan",
            "planning.no_delivery",
            "this arm measures no force and its gripper cannot tell whether it holds something: that a person takes it "
            "would not be noticed. Have it put down instead",
        )


def slow_near_person(there: Delivery, speed_m_s: float, arm: ArmName) -> Delivery:
    """On the way to the person and back from them the tcp keeps their speed."""
    from affordagent.tools.motion.trajectory import slowed

    return replace(there, carry=slowed(there.carry, speed_m_s, arm), retreat=slowed(there.retreat, speed_m_s, arm))


def said(query: FunctionalQuery, plan: GraspPlan, bench: Workbench) -> str:
    """What will happen to the object, for a person who is asked before the motion."""
    thing = query.object_words or query.category or "object"
    if plan.delivery is None:
        return f"The {thing} is picked up and held."
    x, y, z = plan.delivery.T_base_tcp[:3, 3]
    where = f"x {x:.2f}, y {y:.2f}, z {z:.2f} m"
    if plan.delivery.kind == "hand_over":
        wait_s = bench.hand_over.timeout_s
        feels = bench.arm is None or bench.arm.read().tcp_force_n is not None
        until = "let go when you pull" if feels else "you draw it out of the closed fingers, as this arm feels no pull"
        return f"The {thing} is held out to you at {where}, and {until}, within {wait_s:.0f} s."
    there = query.destination
    assert there is not None
    return f"The {thing} is put {there.place}: the hand opens at {where}."
