"""A small part of URScript: what clients upload besides the control script. Straight lines of known calls only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from affordagent.robot.emulator.kinematics import rows_of_pose
from affordagent.robot.emulator.motion import ScriptError, Steps

if TYPE_CHECKING:
    from affordagent.robot.emulator.controller import Controller

_OPENS = re.compile(r"\s*(def|sec|thread|while|if|for)\b")
_CALL = re.compile(r"(\w+)\((.*)\)$")
_VECTOR = re.compile(r"(p?)\[([^\]]*)\](.*)")


class Splitter:
    """Programs from lines: each ends with the `end` that matches its first line, or is a single statement."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    def add(self, line: str) -> str | None:
        """The whole program when this was its last line."""
        code = line.split("#")[0].strip()
        if not self._lines and not code:
            return None
        self._lines.append(line)
        if _OPENS.match(line):
            self._depth += 1
        elif code == "end":
            self._depth -= 1
        if self._depth > 0:
            return None
        text, self._lines, self._depth = "\n".join(self._lines) + "\n", [], 0
        return text


def name_of(text: str) -> str:
    """Of a program, or the statement itself."""
    match = re.match(r"\s*(?:def|sec)\s+(\w+)", text)
    return match[1] if match else text.strip()[:40]


def vector(text: str) -> tuple[bool, list[float], str]:
    """Is it a pose, its six numbers, and what follows.

    Raises:
        ScriptError: it is no vector.
    """
    match = _VECTOR.match(text)
    if match is None:
        raise ScriptError(f"neither joints nor a pose: {text[:60]}")
    return bool(match[1]), [float(v) for v in match[2].split(",")], match[3]


def run_statements(controller: Controller, text: str) -> Steps:
    """Run the statements one after the other.

    Raises:
        ScriptError: a statement that is not emulated.
    """
    for line in text.splitlines():
        code = line.split("#")[0].strip()
        if not code or code == "end" or re.match(r"(def|sec)\s", code):
            continue
        call = _CALL.match(code)
        if call is None:
            raise ScriptError(f"not emulated: {code}")
        try:
            yield from _call(controller, call[1], call[2])
        except (ValueError, IndexError, OverflowError) as error:
            raise ScriptError(f"{code[:60]}: {error}") from error
    yield


def _call(controller: Controller, name: str, arguments: str) -> Steps:
    motion = controller.motion
    if name == "write_output_integer_register":
        index, value = arguments.split(",")
        controller.registers.out_int[sum(int(v) for v in index.split("+"))] = int(value)
    elif name == "sleep":
        for _ in range(round(float(arguments) / controller.dt_s)):
            yield
    elif name in ("movej", "movel"):
        is_pose, values, rest = vector(arguments)
        options = {k: float(v) for k, v in re.findall(r"(\w)\s*=\s*([\d.eE+-]+)", rest)}
        if name == "movej":
            q = motion.joints_of(values) if is_pose else values
            yield from motion.movej(q, options.get("v", 1.05), options.get("a", 1.4))
        else:
            T = rows_of_pose(values) if is_pose else motion.kinematics.tcp(values)
            yield from motion.movel(T, options.get("v", 0.25), options.get("a", 1.2))
    elif name == "stopj":
        yield from motion.stopj(float(arguments))
    elif name in ("set_standard_digital_out", "set_digital_out"):
        index, value = arguments.split(",")
        controller.set_digital_out(1 << int(index), (1 << int(index)) if value.strip() == "True" else 0)
    elif name == "textmsg":
        controller.say(f"textmsg {arguments}")
    else:
        raise ScriptError(f"not emulated: {name}()")
