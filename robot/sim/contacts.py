"""Who touched what, phase by phase: the record that the strict judge reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import mujoco
import numpy as np

from affordagent.core.geometry import Array, rigid
from affordagent.robot.model import PREFIX, TCP_SITE
from affordagent.robot.sim.bodies import geom_parts

LOG_STEPS = 4  # 8 ms, as often as the arm gets a set-point
FORCE_SHARE = 0.2  # of a new sample in the felt force: some 4 Hz

Part = tuple[str, str]  # object, part


@dataclass
class PhaseLog:
    """Contacts during one phase, sampled every LOG_STEPS steps. pads_n: summed normal forces of the fingertip pads, by
    part; arm: contacts with any other robot part, by object; table_force_n: the strongest push against table or floor;
    T_base_body: poses of all loose bodies and of the tcp ("tcp") at its end."""

    pads_n: dict[Part, float] = field(default_factory=dict)
    arm: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    samples_with_pads: int = 0
    table_force_n: float = 0.0
    T_base_body: dict[str, Array] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "pads_n": [[*part, force] for part, force in self.pads_n.items()],
            "arm": dict(self.arm),
            "samples": self.samples,
            "samples_with_pads": self.samples_with_pads,
            "table_force_n": self.table_force_n,
            "T_base_body": {name: T.tolist() for name, T in self.T_base_body.items()},
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> PhaseLog:
        """The log that `as_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: not such a record.
        """
        return cls(
            pads_n={(name, part): float(force) for name, part, force in record["pads_n"]},
            arm=Counter({str(name): int(count) for name, count in record["arm"].items()}),
            samples=int(record["samples"]),
            samples_with_pads=int(record["samples_with_pads"]),
            table_force_n=float(record["table_force_n"]),
            T_base_body={str(name): np.array(T, float) for name, T in record["T_base_body"].items()},
        )


def contact_force(model: mujoco.MjModel, data: mujoco.MjData, contact: int) -> Array:
    """(3,) N of a contact, world frame, on its second geom."""
    force = np.zeros(6)
    mujoco.mj_contactForce(model, data, contact, force)
    # rows of the frame: the normal from the first geom to the second, and two tangents
    return force[:3] @ data.contact.frame[contact].reshape(3, 3)


class ContactLog:
    """Logs the contacts of a running model. phases: by name, in order of their first step. force_n: (3,) low-passed sum
    of the contact forces on the robot, base frame, the weight of what it holds among them: what a wrist would feel."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self.phases: dict[str, PhaseLog] = {}
        self.force_n = np.zeros(3)
        self._model, self._data, self._steps = model, data, 0
        self._parts = geom_parts(model)
        bodies = [model.body(body).name for body in model.geom_bodyid]
        self._is_robot = np.array([name.startswith(PREFIX) for name in bodies])
        self._is_pad = np.array([r and model.geom(i).name[-4:-1] == "pad" for i, r in enumerate(self._is_robot)])
        self._free_bodies = [
            model.body(model.jnt_bodyid[j]).name
            for j in range(model.njnt)
            if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_FREE
        ]

    def clear(self) -> None:
        self.phases.clear()
        self.force_n = np.zeros(3)

    def log(self, phase: str) -> None:
        """Call after every physics step: each LOG_STEPS-th is looked at, the first of a phase among them."""
        log = self.phases.get(phase)
        if log is None:
            log, self._steps = self.phases.setdefault(phase, PhaseLog()), 0
        if self._steps % LOG_STEPS == 0:
            self._sample(log)
        self._steps += 1

    def mark(self, phase: str) -> None:
        """A phase has ended: keep where everything is."""
        self.phases.setdefault(phase, PhaseLog()).T_base_body = self.poses()

    def poses(self) -> dict[str, Array]:
        """T_base_body of every loose body, and of the tcp as "tcp"."""
        mujoco.mj_kinematics(self._model, self._data)
        found = {}
        for name in self._free_bodies:
            body = self._data.body(name)
            found[name] = rigid(body.xmat.reshape(3, 3), body.xpos)
        site = self._data.site(TCP_SITE)
        return {**found, "tcp": rigid(site.xmat.reshape(3, 3), site.xpos)}

    def touched_by_pads(self) -> set[Part]:
        """Object parts that the fingertip pads touch now."""
        geoms = self._data.contact.geom[: self._data.ncon]
        pads = self._is_pad[geoms]
        touched = geoms[:, ::-1][pads]
        return {self._parts[int(g)] for g in touched if int(g) in self._parts}

    def _sample(self, log: PhaseLog) -> None:
        log.samples += 1
        count, held = self._data.ncon, False
        total_n = np.zeros(3)
        if not count:
            self.force_n = (1 - FORCE_SHARE) * self.force_n
            return
        geoms = self._data.contact.geom[:count]
        first, second = self._is_robot[geoms[:, 0]], self._is_robot[geoms[:, 1]]
        for i in np.flatnonzero(first != second):
            robot, other = geoms[i] if first[i] else geoms[i][::-1]
            part = self._parts.get(int(other))
            force_n = contact_force(self._model, self._data, int(i))
            total_n += -force_n if first[i] else force_n
            push_n = float(self._data.contact.frame[i, :3] @ force_n)
            if part is None:
                log.table_force_n = max(log.table_force_n, push_n)
            elif self._is_pad[robot]:
                log.pads_n[part] = log.pads_n.get(part, 0.0) + push_n
                held = True
            else:
                log.arm[part[0]] += 1
        log.samples_with_pads += held
        self.force_n = (1 - FORCE_SHARE) * self.force_n + FORCE_SHARE * total_n
