"""The variables of RTDE that the emulator knows: types as in the RTDE guide, and where the outputs come from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from affordagent.robot.emulator.controller import Controller, Mode, Runtime
from affordagent.robot.emulator.kinematics import pose_of_rows
from affordagent.robot.emulator.registers import COUNT

FORMATS = {
    "DOUBLE": "d", "INT32": "i", "UINT32": "I", "UINT64": "Q", "UINT8": "B", "BOOL": "?",
    "VECTOR6D": "6d", "VECTOR6INT32": "6i", "VECTOR3D": "3d",
}  # fmt: skip
WIDTHS = {"VECTOR6D": 6, "VECTOR6INT32": 6, "VECTOR3D": 3}

Getter = Callable[[Controller], Any]  # a number, or a vector of the type's width

_JOINT_MODE_RUNNING, _JOINT_MODE_OFF = 253, 239
_GRAVITY_M_S2 = 9.82
_ZERO6, _ZERO3 = (0.0,) * 6, (0.0,) * 3


def _actual_pose(c: Controller) -> Any:
    return pose_of_rows(c.motion.kinematics.tcp(c.plant.q.tolist()))


def _target_pose(c: Controller) -> Any:
    return pose_of_rows(c.motion.kinematics.tcp(c.motion.q_cmd.tolist()))


def _tcp_force(c: Controller) -> Any:
    return [float(f) - zero for f, zero in zip(c.plant.tcp_force_n, c.force_zero_n, strict=True)] + [0.0] * 3


def _tcp_force_size(c: Controller) -> Any:
    return math.dist(list(c.plant.tcp_force_n), c.force_zero_n)


def _robot_status(c: Controller) -> Any:
    """Bit 0: power on, bit 1: program running."""
    return (1 if c.mode is not Mode.POWER_OFF else 0) | (2 if c.runtime is Runtime.PLAYING else 0)


OUTPUTS: dict[str, tuple[str, Getter]] = {
    "timestamp": ("DOUBLE", lambda c: c.t),
    "actual_q": ("VECTOR6D", lambda c: c.plant.q),
    "actual_qd": ("VECTOR6D", lambda c: c.plant.qd),
    "target_q": ("VECTOR6D", lambda c: c.motion.q_cmd),
    "target_qd": ("VECTOR6D", lambda c: c.motion.qd_cmd),
    "actual_TCP_pose": ("VECTOR6D", _actual_pose),
    "target_TCP_pose": ("VECTOR6D", _target_pose),
    "actual_TCP_speed": ("VECTOR6D", lambda c: c.motion.kinematics.twist(c.plant.q.tolist(), c.plant.qd.tolist())),
    "target_TCP_speed": (
        "VECTOR6D", lambda c: c.motion.kinematics.twist(c.motion.q_cmd.tolist(), c.motion.qd_cmd.tolist()),
    ),
    "actual_TCP_force": ("VECTOR6D", _tcp_force),
    "tcp_force_scalar": ("DOUBLE", _tcp_force_size),
    "tcp_offset": ("VECTOR6D", lambda c: pose_of_rows(c.motion.kinematics.T_flange_tcp)),
    "robot_mode": ("INT32", lambda c: c.mode),
    "safety_mode": ("INT32", lambda c: c.safety.value[0]),
    "safety_status": ("INT32", lambda c: c.safety.value[0]),
    "safety_status_bits": ("UINT32", lambda c: c.safety.value[1]),
    "robot_status_bits": ("UINT32", _robot_status),
    "runtime_state": ("UINT32", lambda c: c.runtime),
    "joint_mode": (
        "VECTOR6INT32",
        lambda c: (_JOINT_MODE_RUNNING if c.mode is Mode.RUNNING else _JOINT_MODE_OFF,) * 6,
    ),
    "speed_scaling": ("DOUBLE", lambda c: c.limiter_now),
    "target_speed_fraction": ("DOUBLE", lambda c: c.slider),
    "actual_digital_input_bits": ("UINT64", lambda c: c.digital_in),
    "actual_digital_output_bits": ("UINT64", lambda c: c.digital_out),
    "standard_analog_output0": ("DOUBLE", lambda c: c.analog_out[0]),
    "standard_analog_output1": ("DOUBLE", lambda c: c.analog_out[1]),
    "payload": ("DOUBLE", lambda c: c.payload_kg),
    "payload_cog": ("VECTOR3D", lambda c: c.payload_cog_m),
    "actual_main_voltage": ("DOUBLE", lambda c: 48.0),
    "actual_robot_voltage": ("DOUBLE", lambda c: 48.0 if c.mode is not Mode.POWER_OFF else 0.0),
    "joint_temperatures": ("VECTOR6D", lambda c: (30.0,) * 6),
    "actual_tool_accelerometer": ("VECTOR3D", lambda c: (0.0, 0.0, -_GRAVITY_M_S2)),
    "output_bit_registers0_to_31": ("UINT32", lambda c: 0),
    "output_bit_registers32_to_63": ("UINT32", lambda c: 0),
}  # fmt: skip

for _name in (
    "target_qdd", "target_current", "target_moment", "actual_current", "joint_control_output", "actual_joint_voltage",
    "ft_raw_wrench", "payload_inertia", "actual_current_as_torque",
):  # fmt: skip
    OUTPUTS[_name] = ("VECTOR6D", lambda c: _ZERO6)  # not modelled
for _name in (
    "actual_execution_time", "actual_momentum", "actual_robot_current", "standard_analog_input0",
    "standard_analog_input1",
):  # fmt: skip
    OUTPUTS[_name] = ("DOUBLE", lambda c: 0.0)  # not modelled

INPUTS: dict[str, str] = {
    "speed_slider_mask": "UINT32",
    "speed_slider_fraction": "DOUBLE",
    "standard_digital_output_mask": "UINT8",
    "standard_digital_output": "UINT8",
    "configurable_digital_output_mask": "UINT8",
    "configurable_digital_output": "UINT8",
    "tool_digital_output_mask": "UINT8",
    "tool_digital_output": "UINT8",
    "standard_analog_output_mask": "UINT8",
    "standard_analog_output_type": "UINT8",
    "standard_analog_output_0": "DOUBLE",
    "standard_analog_output_1": "DOUBLE",
    "external_force_torque": "VECTOR6D",
    "input_bit_registers0_to_31": "UINT32",
    "input_bit_registers32_to_63": "UINT32",
}


def _add_registers() -> None:
    def getter(values: str, index: int) -> Getter:
        return lambda c: getattr(c.registers, values)[index]

    for i in range(COUNT):
        for kind, rtde_type in (("int", "INT32"), ("double", "DOUBLE")):
            OUTPUTS[f"output_{kind}_register_{i}"] = (rtde_type, getter(f"out_{kind}", i))
            OUTPUTS[f"input_{kind}_register_{i}"] = (rtde_type, getter(f"in_{kind}", i))
            INPUTS[f"input_{kind}_register_{i}"] = rtde_type


_add_registers()
