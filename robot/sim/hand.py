"""The 2F-85 alone in a scene: what would come of a grasp, without an arm and its plan.

The hand is the one of the whole cell: the same fingers, pads, solver and time step. It hangs on three slides instead of
an arm, its attitude fixed for the length of a grasp, and moves faster than an arm would, so that an outcome costs a
fraction of an episode. What it cannot tell: whether an arm gets there.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from affordagent.core.geometry import Array, invert, rigid
from affordagent.core.types import Verdict
from affordagent.robot.gripper import NOTHING_HELD_M
from affordagent.robot.model import (
    GRIPPER_PREFIX,
    PAD_BODIES,
    PAD_FRICTION,
    PREFIX,
    SERVO_LAG_S,
    TCP_SITE,
    TIMESTEP_S,
    gripper_spec,
    set_fingers,
)
from affordagent.robot.sim.bodies import quaternion
from affordagent.robot.sim.contacts import ContactLog
from affordagent.robot.sim.joints import Fingers, let_fall
from affordagent.robot.sim.judge import Gold, judge_motion
from affordagent.robot.sim.scene import Scene, build_spec

PARKED_M = (-0.6, 0.0, 1.6)  # where the hand waits, out of the camera's sight
PREGRASP_M = 0.10
APPROACH_S, CLOSE_LEAST_S, CLOSE_MOST_S, LIFT_S, HOLD_S = 0.8, 0.3, 2.0, 1.2, 2.0
LIFT_M = 0.20
STIFFNESS_N_M = 8000.0  # of the slides: about a UR5e's servos, half a metre from the shoulder
MOST_FORCE_N = 150.0
CARRIAGE_KG = 5.0
LOOK_EVERY_S = 0.1  # how often it is asked whether the thing is still held
_SLIDES = tuple(f"{PREFIX}slide_{axis}" for axis in "xyz")
_MOUNT = f"{PREFIX}{GRIPPER_PREFIX}base_mount"


class _Unstable(Exception):
    """The integration diverged."""


@dataclass(frozen=True)
class Conditions:
    """What differs from trial to trial. pad_friction: sliding, of the fingertips. mass_ratio: of the target's mass to
    its nominal one. shift_m: (3,) error of the hand's place and turn_rad: (3,) rotation vector of its attitude, both in
    the tcp frame."""

    pad_friction: float = PAD_FRICTION[0]
    mass_ratio: float = 1.0
    shift_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Conditions:
        """Pads between .5 and .9, mass within 30 %, errors of 2 mm and 2 degrees (root mean square)."""
        x, y, z = rng.normal(0, 0.002 / np.sqrt(3), 3)
        a, b, c = rng.normal(0, np.radians(2) / np.sqrt(3), 3)
        return cls(float(rng.uniform(0.5, 0.9)), float(rng.uniform(0.7, 1.3)), (x, y, z), (a, b, c))


NOMINAL = Conditions()
JAMMED = Verdict(False, "execution.collision", {"stable": False}, {}, "simulator")


class HandScene:
    """A scene with a hand that hangs in the air, its objects come to rest. Grasps are tried one after the other, each
    from the same state."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.model = _spec(scene).compile()
        self.data = mujoco.MjData(self.model)
        model, self._fingers = self.model, Fingers(self.model, self.data)
        self._contacts = ContactLog(model, self.data)
        self._slides = np.array([model.joint(name).qposadr[0] for name in _SLIDES])
        self._servos = np.array([model.actuator(name).id for name in _SLIDES])
        self._pads = [g for g in range(model.ngeom) if model.body(model.geom_bodyid[g]).name in PAD_BODIES]
        self._pads = [g for g in self._pads if model.geom_priority[g] == 1]
        self._mount = model.body(_MOUNT).id
        self._place_hand(np.array(PARKED_M))
        let_fall(model, self.data)
        self._T_tcp_mount = self._tcp_to_mount()
        self._settled = copy.copy(self.data)
        self.before = self._contacts.poses()

    @property
    def qpos(self) -> Array:
        """(nq,) with the objects at rest and the hand away, e.g. for a `SceneView` of `model`."""
        return self._settled.qpos.copy()

    def try_grasp(
        self,
        target: str,
        part: str | None,
        T_base_tcp: Array,
        opening_m: float,
        conditions: Conditions = NOMINAL,
        hold_s: float = HOLD_S,
    ) -> Verdict:
        """Approach along the hand, close, lift, hold: the strict verdict of `robot.sim.judge`.

        target: name of the object, part: the part to hold, None = any. T_base_tcp: (4, 4). A thing that is dropped on
        the way ends the trial early. A hand that wedges something so tightly that the simulation breaks has failed
        (`JAMMED`).
        """
        model, data = self.model, self.data
        mujoco.mj_copyData(data, model, self._settled)
        self._contacts.clear()
        body = model.body(target).id
        nominal = model.body_mass[body], model.body_inertia[body].copy()
        model.body_mass[body], model.body_inertia[body] = (conditions.mass_ratio * value for value in nominal)
        model.geom_friction[self._pads, 0] = conditions.pad_friction
        T = T_base_tcp @ rigid(Rotation.from_rotvec(conditions.turn_rad).as_matrix(), conditions.shift_m)
        start = T[:3, 3] - PREGRASP_M * T[:3, 2]
        mount = rigid(T[:3, :3], np.zeros(3)) @ self._T_tcp_mount
        model.body_pos[self._mount], model.body_quat[self._mount] = mount[:3, 3], quaternion(mount[:3, :3])
        self._place_hand(start)
        set_fingers(model, data, self._fingers.driver_rad(opening_m))
        self._fingers.set_fingers(opening_m)
        mujoco.mj_forward(model, data)
        try:
            self._carry_out(target, start, T[:3, 3], hold_s)
        except _Unstable:
            return JAMMED
        finally:
            model.body_mass[body], model.body_inertia[body] = nominal
        return judge_motion(self._contacts.phases, self.before, target, part, Gold(frozenset({target}), part))

    def _carry_out(self, target: str, start: Array, at: Array, hold_s: float) -> None:
        self._line("approach", start, at, APPROACH_S)
        self._fingers.set_fingers(0.0)
        closing_from_s = self.data.time
        while self.data.time - closing_from_s < CLOSE_MOST_S:
            self._move("close", at, at, LOOK_EVERY_S)
            if self._fingers.fingers_rest and self.data.time - closing_from_s >= CLOSE_LEAST_S:
                break
        if self._fingers.opening_m < NOTHING_HELD_M:
            return
        up = np.array([0, 0, LIFT_M])
        if not self._line("lift", at, at + up, LIFT_S, target):
            return
        for _ in range(round(hold_s / LOOK_EVERY_S)):
            self._move("hold", at + up, at + up, LOOK_EVERY_S)
            if not self._touches(target):
                return

    def _line(self, phase: str, start: Array, end: Array, duration_s: float, held: str | None = None) -> bool:
        """A straight line from rest to rest; ends early, and gives False, when the pads let go of `held`."""
        share = _smooth(np.linspace(0, 1, round(duration_s / LOOK_EVERY_S) + 1))
        for a, b in zip(share, share[1:], strict=False):
            self._move(phase, start + a * (end - start), start + b * (end - start), LOOK_EVERY_S)
            if held is not None and not self._touches(held):
                return False
        return True

    def _move(self, phase: str, start: Array, end: Array, duration_s: float) -> None:
        """The tcp follows a straight line at an even speed; the servos' lag is fed forward."""
        steps = round(duration_s / TIMESTEP_S)
        rate, begun_s = (end - start) / duration_s, self.data.time
        for k in range(1, steps + 1):
            self.data.ctrl[self._servos] = start + (end - start) * k / steps + SERVO_LAG_S * rate
            mujoco.mj_step(self.model, self.data)
            self._contacts.log(phase)
        if self.data.time < begun_s:  # MuJoCo starts anew from zero
            raise _Unstable
        self._contacts.mark(phase)

    def _touches(self, target: str) -> bool:
        return any(name == target for name, _ in self._contacts.touched_by_pads())

    def _place_hand(self, tcp_m: Array) -> None:
        self.data.qpos[self._slides] = tcp_m
        self.data.ctrl[self._servos] = tcp_m

    def _tcp_to_mount(self) -> Array:
        """T_tcp_mount: where the hand's root body is in the frame of its tcp."""
        mount, site = self.data.body(_MOUNT), self.data.site(TCP_SITE)
        T_base_mount, T_base_tcp = (rigid(x.xmat.reshape(3, 3), x.xpos) for x in (mount, site))
        return invert(T_base_tcp) @ T_base_mount


def _smooth(t: Array) -> Array:
    """From rest to rest, 0 to 1, accelerating evenly half the way."""
    return np.where(t < 0.5, 2 * t**2, 1 - 2 * (1 - t) ** 2)


def _spec(scene: Scene) -> mujoco.MjSpec:
    spec = build_spec(scene, with_arm=False)
    spec.option.enableflags |= mujoco.mjtEnableBit.mjENBL_SLEEP  # what nobody touches costs nothing
    carriage = spec.worldbody.add_body(name=f"{PREFIX}carriage", gravcomp=1, sleep=mujoco.mjtSleepPolicy.mjSLEEP_NEVER)
    carriage.add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.001, 0, 0], mass=CARRIAGE_KG, contype=0, conaffinity=0, group=4
    )
    for name, axis in zip(_SLIDES, np.eye(3), strict=True):
        carriage.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
        servo = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        servo.set_to_position(kp=STIFFNESS_N_M, kv=SERVO_LAG_S * STIFFNESS_N_M)
        servo.forcelimited, servo.forcerange = True, [-MOST_FORCE_N, MOST_FORCE_N]
    spec.attach(gripper_spec(max_faces=1200), frame=carriage.add_frame(), prefix=f"{PREFIX}{GRIPPER_PREFIX}")
    return spec
