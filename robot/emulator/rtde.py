"""RTDE on port 30004. A message is big-endian `u16 size with the 3-byte header, u8 type, body`.

Source: Universal Robots, "Real-Time Data Exchange (RTDE) guide", protocol version 2.
"""

from __future__ import annotations

import math
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from affordagent.robot.emulator.connections import Connection
from affordagent.robot.emulator.controller import DIGITAL_OUTPUTS, Controller
from affordagent.robot.emulator.rtde_fields import FORMATS, INPUTS, OUTPUTS, WIDTHS, Getter

HEADER = struct.Struct(">HB")
_MOST_HZ = 500.0


class Message(IntEnum):
    REQUEST_PROTOCOL_VERSION = ord("V")
    GET_CONTROLLER_VERSION = ord("v")
    SETUP_OUTPUTS = ord("O")
    SETUP_INPUTS = ord("I")
    START = ord("S")
    PAUSE = ord("P")
    DATA = ord("U")


@dataclass(frozen=True)
class _InputRecipe:
    names: list[str]
    types: list[str]
    body: struct.Struct

    def unpack(self, data: bytes) -> dict[str, Any]:
        values = self.body.unpack(data[: self.body.size])
        fields, k = dict[str, Any](), 0
        for name, rtde_type in zip(self.names, self.types, strict=True):
            width = WIDTHS.get(rtde_type, 1)
            fields[name] = values[k] if width == 1 else values[k : k + width]
            k += width
        return fields


class RtdeConnection(Connection):
    """owners: which connection has each input variable; shared by all connections of a server."""

    def __init__(self, sock: socket.socket, controller: Controller, owners: dict[str, Connection]) -> None:
        super().__init__(sock)
        self._c, self._owners = controller, owners
        self._inputs: list[_InputRecipe | None] = []
        self._outputs: list[tuple[Getter, bool]] = []
        self._body = struct.Struct(">B")
        self._every, self._ticks, self._started = 1, 0, False

    def feed(self, data: bytes) -> None:
        self.buffer += data
        while len(self.buffer) >= HEADER.size:
            size, kind = HEADER.unpack_from(self.buffer)
            if size < HEADER.size:
                self.dead = True
                return
            if len(self.buffer) < size:
                return
            body, self.buffer = self.buffer[HEADER.size : size], self.buffer[size:]
            try:
                self._take(kind, body)
            except struct.error as error:
                self._c.warn(f"RTDE: malformed message {kind}: {error}")
                self.dead = True
                return

    def _reply(self, kind: int, body: bytes) -> None:
        self.send(HEADER.pack(HEADER.size + len(body), kind) + body)

    def _take(self, kind: int, body: bytes) -> None:
        if kind == Message.DATA:
            self._take_data(body)
        elif kind == Message.REQUEST_PROTOCOL_VERSION:
            self._reply(kind, b"\x01" if body == struct.pack(">H", 2) else b"\x00")
        elif kind == Message.GET_CONTROLLER_VERSION:
            self._reply(kind, struct.pack(">4I", *self._c.version))
        elif kind == Message.SETUP_OUTPUTS:
            self._set_up_outputs(struct.unpack_from(">d", body)[0], _names(body[8:]))
        elif kind == Message.SETUP_INPUTS:
            self._set_up_inputs(_names(body))
        elif kind in (Message.START, Message.PAUSE):
            self._started = kind == Message.START
            self._reply(kind, b"\x01")
        else:
            self._c.warn(f"RTDE: unknown message {kind}")

    def _set_up_outputs(self, frequency_hz: float, names: list[str]) -> None:
        types = [OUTPUTS[name][0] if name in OUTPUTS else "NOT_FOUND" for name in names]
        if not 0 < frequency_hz <= _MOST_HZ:
            self._reply(Message.SETUP_OUTPUTS, b"\x00" + ",".join(types).encode())
            return
        if "NOT_FOUND" not in types:
            self._every = max(1, round(1 / (self._c.dt_s * frequency_hz)))
            self._outputs = [(OUTPUTS[name][1], OUTPUTS[name][0] in WIDTHS) for name in names]
            self._body = struct.Struct(">B" + "".join(FORMATS[rtde_type] for rtde_type in types))
        self._reply(Message.SETUP_OUTPUTS, b"\x01" + ",".join(types).encode())

    def _set_up_inputs(self, names: list[str]) -> None:
        """A register belongs to the connection that asked for it first, until it closes."""
        types = []
        for name in names:
            owner = self._owners.get(name)
            if name.startswith("input_") and owner is not None and owner is not self and not owner.dead:
                types.append("IN_USE")
            else:
                types.append(INPUTS.get(name, "NOT_FOUND"))
                self._owners[name] = self
        usable = all(rtde_type in FORMATS for rtde_type in types)
        body = struct.Struct(">" + "".join(FORMATS[rtde_type] for rtde_type in types)) if usable else None
        self._inputs.append(_InputRecipe(names, types, body) if body is not None else None)
        number = len(self._inputs) if usable else 0
        self._reply(Message.SETUP_INPUTS, bytes([number]) + ",".join(types).encode())

    def _take_data(self, body: bytes) -> None:
        number = body[0] if body else 0
        recipe = self._inputs[number - 1] if 1 <= number <= len(self._inputs) else None
        if recipe is None:
            self._c.warn(f"RTDE: data for input recipe {number}, which does not exist")
            return
        if len(body) - 1 != recipe.body.size:
            self._c.warn(f"RTDE: input recipe {number} takes {recipe.body.size} bytes, got {len(body) - 1}")
        if len(body) - 1 >= recipe.body.size:
            self._apply(recipe.unpack(body[1:]))

    def _apply(self, fields: dict[str, Any]) -> None:
        c = self._c
        for name, value in fields.items():
            c.registers.write(name, value, c.t)
        for kind, shift in (("standard", 0), ("configurable", 8), ("tool", DIGITAL_OUTPUTS - 2)):
            mask = fields.get(f"{kind}_digital_output_mask", 0)
            c.set_digital_out(mask << shift, fields.get(f"{kind}_digital_output", 0) << shift)
        fraction = fields.get("speed_slider_fraction", math.nan)
        if fields.get("speed_slider_mask") and 0 <= fraction <= 1:
            c.slider = fraction
        for i in (0, 1):
            if fields.get("standard_analog_output_mask", 0) >> i & 1:
                c.analog_out[i] = fields.get(f"standard_analog_output_{i}", c.analog_out[i])

    def publish(self) -> None:
        """Called once a tick: send the outputs when it is their turn."""
        if not self._started or not self._outputs:
            return
        self._ticks += 1
        if self._ticks % self._every:
            return
        values: list[Any] = []
        for get, is_vector in self._outputs:
            if is_vector:
                values.extend(get(self._c))
            else:
                values.append(get(self._c))
        self._reply(Message.DATA, self._body.pack(1, *values))


def _names(body: bytes) -> list[str]:
    return [name for name in body.decode("ascii", "replace").split(",") if name]
