"""The controller's state machine: power, brakes, safety, programs and their clock, with a plant to drive.

Everything happens in `tick`, in one thread. Sources: Universal Robots, "Real-Time Data Exchange (RTDE) guide" (modes
and status bits), "Dashboard server e-Series" and the user manual (stop categories; a safeguard stop resumes by
itself).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum

from affordagent.core.geometry import Array
from affordagent.robot.arms import ARMS, ArmName
from affordagent.robot.emulator.control_script import ControlScript
from affordagent.robot.emulator.motion import Motion, SafetyStop, ScriptError
from affordagent.robot.emulator.motion_log import MotionLog
from affordagent.robot.emulator.plant_interface import Plant
from affordagent.robot.emulator.program import MAIN, Program
from affordagent.robot.emulator.registers import Registers
from affordagent.robot.emulator.urscript import name_of, run_statements

UNLOCK_AFTER_S = 5.0  # a protective stop cannot be unlocked earlier
POWER_ON_S, BRAKE_RELEASE_S = 1.0, 1.5
UPLOAD_S = 0.1  # from a script's arrival to its first line
SCALE_RATE_S = 10.0  # change of the speed scaling, 1/s: from full speed to a pause in 0.1 s
DIGITAL_OUTPUTS = 18  # 8 standard, 8 configurable, 2 at the tool


class Mode(IntEnum):
    POWER_OFF = 3
    POWER_ON = 4
    IDLE = 5
    RUNNING = 7


class Runtime(IntEnum):
    STOPPED = 1
    PLAYING = 2
    PAUSED = 4


class Safety(Enum):
    """Value: RTDE's safety_mode and safety_status_bits."""

    NORMAL = (1, 1 << 0)
    PROTECTIVE_STOP = (3, 1 << 2 | 1 << 10)
    SAFEGUARD_STOP = (5, 1 << 4 | 1 << 10)
    ROBOT_EMERGENCY_STOP = (7, 1 << 6 | 1 << 7 | 1 << 10)
    VIOLATION = (8, 1 << 8 | 1 << 10)
    FAULT = (9, 1 << 9 | 1 << 10)


class Controller:
    """The controller of one arm. t: its clock, s. `say` takes a line for the log at a time.

    limiter: share of the asked speed that the controller grants, 1 when nothing limits it. slider: the pendant's speed
    slider. remote: in remote control, which an e-Series needs to take scripts.
    """

    def __init__(
        self, arm: ArmName, version: tuple[int, int, int, int], plant: Plant, *, powered: bool = True,
        say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self.arm, self.version, self.plant = arm, version, plant
        self.is_e_series = ARMS[arm].is_e_series
        self.dt_s = 0.002 if self.is_e_series else 0.008
        self.t = 0.0
        self.log = MotionLog()
        self.motion = Motion(arm, plant.q, self.dt_s, self.log, lambda: (self.t, self.plant.q))
        self.registers = Registers()
        self.program = Program()
        self.program_name: str | None = None
        self.runtime = Runtime.STOPPED
        self.mode = Mode.RUNNING if powered else Mode.POWER_OFF
        self.safety = Safety.NORMAL
        self.remote = True
        self.limiter = self.slider = 1.0
        self.limiter_now = self._slider_now = 1.0
        self.digital_out = self.digital_in = 0
        self.analog_out = [0.0, 0.0]
        self.payload_kg, self.payload_cog_m = 0.0, [0.0, 0.0, 0.0]
        self.force_zero_n = [0.0, 0.0, 0.0]
        self.watchdog: tuple[str, float] | None = None  # input register, least frequency in Hz
        self.warnings: list[str] = []
        self._say = say
        self._safety_since_s = 0.0
        self._pending: tuple[float, str] | None = None
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._powering_down = False

    def say(self, line: str) -> None:
        self._say(f"[{self.t:9.3f}] {line}")

    def warn(self, line: str) -> None:
        """Something a client should not have done."""
        self.warnings.append(line)
        self.say(f"WARNING {line}")

    def after(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call later, by the controller's clock. Forgotten when the arm loses power."""
        self._timers.append((self.t + delay_s, call))

    # ---- power and safety -----------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Ends with the brakes on (IDLE). Nothing happens unless the arm is off and no emergency stop is held."""
        if self.mode is Mode.POWER_OFF and self.safety is Safety.NORMAL:
            self.mode = Mode.POWER_ON
            self.after(POWER_ON_S, lambda: self._set_mode(Mode.IDLE))

    def release_brakes(self) -> None:
        """Powers the arm on first where that is needed."""
        if self.mode is Mode.RUNNING or self.safety is not Safety.NORMAL:
            return
        delay_s = 0.0 if self.mode is Mode.IDLE else POWER_ON_S
        self.power_on()
        self.after(delay_s + BRAKE_RELEASE_S, lambda: self._set_mode(Mode.RUNNING))

    def _set_mode(self, mode: Mode) -> None:
        self.mode = mode

    def power_off(self) -> None:
        """The arm brakes to a stop and is off then."""
        self.stop_program("power off")
        self._timers.clear()
        self._powering_down = True

    def stop_for_safety(self, safety: Safety, why: str = "") -> None:
        """Protective stop: category 2, the program ends. Safeguard stop: category 2, the program is paused and goes on
        by itself when the safeguard is closed. All others: category 1, the program ends and the arm loses power."""
        self.say(f"safety: {safety.name} {why}")
        self.safety, self._safety_since_s = safety, self.t
        if safety is Safety.SAFEGUARD_STOP:
            self.runtime = Runtime.PAUSED if self.runtime is Runtime.PLAYING else self.runtime
            return
        self.stop_program(f"safety {safety.name}")
        if safety is not Safety.PROTECTIVE_STOP:
            self.power_off()

    def end_safety_stop(self) -> None:
        """Back to NORMAL. The arm stays off if the stop took its power."""
        if self.safety is not Safety.NORMAL:
            self.say(f"safety: {self.safety.name} ends")
            self.safety = Safety.NORMAL
            self.resume()

    def unlock(self) -> bool:
        """End a protective stop; False while it is too early for that."""
        if self.safety is Safety.PROTECTIVE_STOP:
            if self.t - self._safety_since_s < UNLOCK_AFTER_S:
                return False
            self.end_safety_stop()
        return True

    def make_ready(self) -> None:
        """What a person at the pendant would do: mend everything, power on, release the brakes; no program runs."""
        self.stop_program("a person stopped it")
        self._timers.clear()
        self._powering_down = False
        self.safety, self.mode, self.remote, self.limiter = Safety.NORMAL, Mode.RUNNING, True, 1.0

    # ---- programs -------------------------------------------------------------------------------------------------

    @property
    def accepts_scripts(self) -> bool:
        """Is the arm ready, and may programs come from elsewhere?"""
        ready = self.mode is Mode.RUNNING and self.safety is Safety.NORMAL and not self._powering_down
        return ready and (self.remote or not self.is_e_series)

    def load_script(self, text: str) -> None:
        """A whole program has arrived: it replaces the running one. A secondary program or a single statement runs
        beside it."""
        name = name_of(text)
        self.say(f"script received: {name} ({len(text)} bytes)")
        if not self.accepts_scripts:
            self.say(
                f"  rejected: {self.mode.name}, {self.safety.name}, {'remote' if self.remote else 'local'} control"
            )
            return
        if not text.lstrip().startswith("def"):
            self.program.start(f"secondary {name}", run_statements(self, text))
            return
        self.stop_program(f"replaced by {name}")
        self._pending = (self.t + UPLOAD_S, text)

    def _start_pending(self, text: str) -> None:
        self._pending = None
        if not self.accepts_scripts:  # no longer
            return
        self.runtime, self.program_name = Runtime.PLAYING, name_of(text)
        script = ControlScript.recognise(self, text)
        self.program.start(MAIN, script.run() if script is not None else run_statements(self, text))

    def stop_program(self, why: str) -> None:
        """The program ends, and the arm brakes to a stop."""
        if self.runtime is not Runtime.STOPPED or self._pending:
            self.say(f"program stopped ({why})")
        self.program.kill_all()
        self.log.cut()
        self._pending = self.watchdog = self.program_name = None
        self.runtime = Runtime.STOPPED

    def pause(self) -> None:
        if self.runtime is Runtime.PLAYING:
            self.runtime = Runtime.PAUSED

    def resume(self) -> None:
        if self.runtime is Runtime.PAUSED and self.safety is Safety.NORMAL:
            self.runtime = Runtime.PLAYING

    def set_digital_out(self, mask: int, values: int) -> None:
        self.digital_out = (self.digital_out & ~mask) | (values & mask)

    # ---- the clock ------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """One control period."""
        self.t += self.dt_s
        for timer in [timer for timer in self._timers if timer[0] <= self.t]:
            self._timers.remove(timer)
            timer[1]()
        if self._pending is not None and self.t >= self._pending[0]:
            self._start_pending(self._pending[1])
        self._check_watchdog()
        self._scale_speed()
        self.motion.begin_tick()
        if self.limiter_now > 0:
            self._run_program()
        self.motion.end_tick()
        if self._powering_down and self.motion.at_rest:
            self._powering_down, self.mode = False, Mode.POWER_OFF
            self.say("arm is off")
        self.plant.step(self.motion.q_cmd, self.motion.qd_cmd, self.dt_s)

    def _check_watchdog(self) -> None:
        if self.watchdog is not None:
            name, least_hz = self.watchdog
            if self.t - self.registers.written_s.get(name, self.t) > 1.0 / least_hz:
                self.stop_program(f"watchdog: {name} not written for {1.0 / least_hz:.2f} s")

    def _scale_speed(self) -> None:
        limiter = 0.0 if self.runtime is Runtime.PAUSED else self.limiter
        self.limiter_now = _nearer(self.limiter_now, limiter, SCALE_RATE_S * self.dt_s)
        self._slider_now = _nearer(self._slider_now, self.slider, SCALE_RATE_S * self.dt_s)
        self.motion.scale = self.limiter_now * self._slider_now

    def _run_program(self) -> None:
        try:
            if not self.program.step():
                self.stop_program("end of program")
        except SafetyStop as stop:
            self.stop_for_safety(Safety.PROTECTIVE_STOP, str(stop))
        except ScriptError as error:
            self.stop_program(f"runtime error: {error}")

    def place(self, q: Array) -> None:
        """The arm is at (6,) `q`, at rest; a motion under way is forgotten."""
        for name in self.program.threads:
            self.program.kill(name)
        self.plant.place(q)
        self.settle()

    def settle(self) -> None:
        """Hold the arm where the plant says it is."""
        self.motion.settle(self.plant.q)
        self.log.rest(False, self.plant.q.tolist())


def _nearer(value: float, goal: float, most: float) -> float:
    return value + min(max(goal - value, -most), most)
