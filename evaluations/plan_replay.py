"""A plan replayed among the true shapes of a simulated scene, without physics: what touches that must not?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from affordagent.core.geometry import Array, invert, rigid
from affordagent.core.types import GraspPlan, JointTrajectory
from affordagent.robot.kinematics import chain_of
from affordagent.robot.model import GRIPPER_PREFIX, JOINT_NAMES, PREFIX, openings_of_drivers, set_fingers
from affordagent.robot.sim.bodies import quaternion
from affordagent.tools.motion.sampling import densely

STEP_M = 0.001  # no point of the arm, or of what it holds, moves further between two looks
_PARTING_M = 0.01  # what the object stood on or leant against may touch it for so long while it is lifted
_RESTS_M = 0.001


@dataclass(frozen=True)
class Touch:
    """Two things in contact. depth_m: how far one is inside the other."""

    phase: str
    first: str
    second: str
    depth_m: float

    def __str__(self) -> str:
        return f"{self.phase}: {self.first} and {self.second}, {1e3 * self.depth_m:.1f} mm"


class Replay:
    """The model of a scene with everything where it stood. qpos: (nq,) then."""

    def __init__(self, model: mujoco.MjModel, qpos: Array) -> None:
        self._model, self._data, self._qpos = model, mujoco.MjData(model), np.array(qpos)
        self._arm = np.array([model.joint(name).qposadr[0] for name in JOINT_NAMES])
        self._drivers = openings_of_drivers(model)
        names = [self._named(model.body(body).name) for body in model.geom_bodyid]
        self._names = sorted(set(names))
        self._owner = np.array([self._names.index(name) for name in names])

    def _named(self, body: str) -> str:
        """The loose thing a body is, "hand" (palm), "finger", a link of the arm, or "table"."""
        if not body.startswith(PREFIX):
            return body if body != "world" else "table"
        part = body.removeprefix(PREFIX + GRIPPER_PREFIX)
        if part == body:
            return "link " + body.removeprefix(PREFIX)
        return "hand" if part in ("base_mount", "base") else "finger"

    def touches(self, plan: GraspPlan, target: str) -> list[Touch]:
        """What touches what it must not, each pair once a phase: the deepest.

        target: name of the body that is grasped. The fingers may touch it once the approach has begun; from the lift on
        it moves with the hand, and touches nothing either.
        """
        found: dict[tuple[str, str, str], Touch] = {}
        for touch in self._all(plan, target):
            key = touch.phase, touch.first, touch.second
            if key not in found or touch.depth_m > found[key].depth_m:
                found[key] = touch
        return list(found.values())

    def _all(self, plan: GraspPlan, target: str) -> Iterator[Touch]:
        d = plan.delivery
        held, width_m = _Held(self._at_rest(target), plan.approach.positions[-1]), plan.grasp.width_m
        at_grasp = plan.approach.positions[-1:]
        yield from self._phase("to_pregrasp", _steps(plan.to_pregrasp), plan.opening_m, target, None)
        yield from self._phase("approach", _steps(plan.approach), plan.opening_m, target, None)
        for opening_m in np.linspace(plan.opening_m, width_m, 10):
            yield from self._phase("close", at_grasp, opening_m, target, None)
        yield from self._phase("lift", _steps(plan.lift), width_m, target, held)
        if d is None:
            return
        yield from self._phase("carry", _steps(d.carry), width_m, target, held)
        if d.lower is not None:
            yield from self._phase("lower", _steps(d.lower), width_m, target, held)
        let_go = held.at(d.retreat.positions[0])
        for opening_m in np.linspace(width_m, d.opening_m, 10):
            yield from self._phase("open", d.retreat.positions[:1], opening_m, target, let_go)
        yield from self._phase("retreat", _steps(d.retreat), d.opening_m, target, let_go)

    def _phase(
        self, phase: str, joints: Array, opening_m: float, target: str, held: _Held | Array | None
    ) -> Iterator[Touch]:
        """held: the object moves with the hand, stands at a pose (4, 4), or where it stood."""
        in_hand = isinstance(held, _Held)
        forbidden = self._forbidden(target, in_hand, fingers_may_touch=phase != "to_pregrasp")
        parting = forbidden & ~self._resting(target) if phase == "lift" else forbidden
        data = self._data
        data.qpos[:] = self._qpos
        set_fingers(self._model, data, float(np.interp(opening_m, *self._drivers)))
        for q in joints:
            data.qpos[self._arm] = q
            T = held.at(q) if isinstance(held, _Held) else held
            raised_m = 0.0
            if T is not None:
                self._put(target, T)
            if isinstance(held, _Held):
                raised_m = float(held.at(q)[2, 3] - held.T_base_object[2, 3])
            owners, depth_m = self._contacts()
            wrong = (parting if raised_m < _PARTING_M else forbidden)[owners[:, 0], owners[:, 1]]
            for (first, second), depth in zip(owners[wrong], depth_m[wrong], strict=True):
                pair = sorted((self._names[first], self._names[second]))
                yield Touch(phase, pair[0], pair[1], float(depth))

    def _contacts(self) -> tuple[NDArray[np.intp], Array]:
        """(K, 2) who is inside whom, rows of `_names`; (K,) how deep."""
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_collision(self._model, self._data)
        contact, count = self._data.contact, self._data.ncon
        deep = contact.dist[:count] < 0
        return self._owner[contact.geom[:count][deep]], -contact.dist[:count][deep]

    def _forbidden(self, target: str, in_hand: bool, fingers_may_touch: bool) -> NDArray[np.bool_]:
        """(N, N) which of `_names` must not touch."""

        def may(first: str, second: str) -> bool:
            pair, kinds = {first, second}, {_kind(first), _kind(second)}
            if first == second or kinds == {"hand"} or pair <= {"table", "link base", "link shoulder_link"}:
                return True  # one thing; what is bolted to the table
            if pair == {"hand", "link wrist_3_link"}:
                return True
            if kinds == {"thing"}:  # what stands on the table
                return not (in_hand and target in pair)
            return fingers_may_touch and pair == {"finger", target}

        return np.array([[not may(first, second) for second in self._names] for first in self._names])

    def _resting(self, target: str) -> NDArray[np.bool_]:
        """(N, N) the target with what it stands on or leans against."""
        self._data.qpos[:] = self._qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_collision(self._model, self._data)
        contact, count, own = self._data.contact, self._data.ncon, self._names.index(target)
        owners = self._owner[contact.geom[:count][contact.dist[:count] < _RESTS_M]]
        others = np.append(owners[(owners == own).any(axis=1)].ravel(), self._names.index("table"))
        found = np.zeros((len(self._names), len(self._names)), bool)
        found[own, others] = found[others, own] = True
        return found

    def _at_rest(self, name: str) -> Array:
        self._data.qpos[:] = self._qpos
        mujoco.mj_kinematics(self._model, self._data)
        body = self._data.body(name)
        return rigid(body.xmat.reshape(3, 3), body.xpos)

    def _put(self, name: str, T_base_object: Array) -> None:
        start = self._model.joint(f"{name}/free").qposadr[0]
        self._data.qpos[start : start + 7] = np.r_[T_base_object[:3, 3], quaternion(T_base_object[:3, :3])]


class _Held:
    """An object that has moved with the hand since the arm was at (6,) `grasp_q`."""

    def __init__(self, T_base_object: Array, grasp_q: Array) -> None:
        self.T_base_object = T_base_object
        self._T_tcp_object = invert(_tcp(grasp_q)) @ T_base_object

    def at(self, q: Array) -> Array:
        return _tcp(q) @ self._T_tcp_object


def _tcp(q: Array) -> Array:
    chain = chain_of("UR5e")
    return chain.tcp(chain.links(q[None]))[0]


def _kind(owner: str) -> str:
    if owner in ("hand", "finger"):
        return "hand"
    return "arm" if owner.startswith("link ") else "thing"


def _steps(motion: JointTrajectory) -> Array:
    return densely(motion.positions, STEP_M)
