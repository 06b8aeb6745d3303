"""What an unmodified ur_rtde does with the emulated controller at argv[1]; run as a process by test_emulator."""

import sys
import time

import numpy as np
from dashboard_client import DashboardClient
from rtde_control import RTDEControlInterface
from rtde_io import RTDEIOInterface
from rtde_receive import RTDEReceiveInterface

from affordagent.robot.emulator.client import EmulatorClient

host = sys.argv[1]
admin = EmulatorClient(host)
receive = RTDEReceiveInterface(host)
control = RTDEControlInterface(host)
q = np.array(receive.getActualQ())
goal = q + [0.3, 0, 0, 0, 0, 0]


def until(done, limit_s=15.0):
    end_s = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def settled():
    """The joints once the receiver sees the arm at rest."""
    until(lambda: np.abs(receive.getActualQd()).max() < 1e-6)
    return np.array(receive.getActualQ())


assert control.moveJ(goal.tolist(), 1.05, 2.0)
assert np.abs(settled() - goal).max() < 1e-6
pose = np.array(receive.getActualTCPPose())
assert control.moveL((pose - [0, 0, 0.05, 0, 0, 0]).tolist(), 0.25, 1.0)
settled()
assert np.abs(pose - [0, 0, 0.05, 0, 0, 0] - receive.getActualTCPPose())[:3].max() < 1e-4

assert control.moveJ(q.tolist(), 0.5, 1.0, True)
until(lambda: np.abs(np.array(receive.getActualQ()) - q).max() < 0.29)  # on its way
assert control.getAsyncOperationProgress() >= 0
control.stopJ(4.0)
assert np.abs(settled() - q).max() > 0.01
assert control.getAsyncOperationProgress() < 0

assert control.speedJ([0.2, 0, 0, 0, 0, 0], 1.0)
time.sleep(0.3)
assert control.speedStop()
start = settled()
for k in range(60):
    period = control.initPeriod()
    target = start + [0, 0, 0, 0, 0, 0.2 * (k + 1) / 60]
    assert control.servoJ(target.tolist(), 0.5, 0.5, 0.008, 0.05, 300)
    control.waitPeriod(period)
time.sleep(0.4)
assert control.servoStop()
assert np.abs(settled() - start)[5] > 0.15

assert control.setTcp([0, 0, 0.1638, 0, 0, 0])
assert np.allclose(control.getTCPOffset(), [0, 0, 0.1638, 0, 0, 0])
assert control.setPayload(0.95, [0, 0, 0.06])
assert admin.state()["payload_kg"] == 0.95
assert np.allclose(control.getInverseKinematics(receive.getActualTCPPose()), settled(), atol=1e-4)
io = RTDEIOInterface(host)
assert io.setStandardDigitalOut(2, True)
assert io.setSpeedSlider(0.8)

assert control.setWatchdog(5.0)
until(lambda: not control.isProgramRunning())
assert not control.moveJ(goal.tolist())
control.reuploadScript()
until(control.isProgramRunning)

assert control.moveJ(goal.tolist(), 1.0, 2.0, True)
until(lambda: np.abs(receive.getActualQd()).max() > 0.1)
admin.fault("protective_stop")
until(receive.isProtectiveStopped)
until(lambda: not control.isProgramRunning())
settled()
assert not control.moveJ(goal.tolist())
assert receive.getActualDigitalOutputBits() == 4
dashboard = DashboardClient(host)
dashboard.connect()
assert dashboard.safetymode() == "Safetymode: PROTECTIVE_STOP"
admin.clear()
control.reuploadScript()
until(control.isProgramRunning)
assert control.moveJ(q.tolist(), 1.0, 2.0)
assert np.abs(settled() - q).max() < 1e-6
assert admin.state()["warnings"] == []
control.stopScript()
for client in (io, control, receive, dashboard, admin):
    (client.close if client is admin else client.disconnect)()
print("ALL GOOD", flush=True)
