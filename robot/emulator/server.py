"""One process, one thread: the controller's ticks in real time, and between them all its sockets."""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import time
from collections.abc import Callable

from affordagent.core.errors import AffordAgentError
from affordagent.robot.emulator.admin import AdminConnection
from affordagent.robot.emulator.connections import Connection
from affordagent.robot.emulator.controller import Controller
from affordagent.robot.emulator.dashboard import DashboardConnection
from affordagent.robot.emulator.faults import Faults, Link
from affordagent.robot.emulator.robotiq import Robotiq, RobotiqConnection
from affordagent.robot.emulator.rtde import RtdeConnection
from affordagent.robot.emulator.script_port import ScriptConnection

PORTS = {
    30004: "rtde", 29999: "dashboard", 30001: "script", 30002: "script", 30003: "script", 63352: "robotiq",
    29998: "admin",
}  # fmt: skip
_PARENT_EVERY_TICKS = 250


class Server:
    """Listens on the ports of a controller. late: how often the clock slipped since a tick came too late.

    Raises:
        AffordAgentError: the address is not of this machine's loopback, or a port is taken.
    """

    def __init__(self, controller: Controller, host: str, speedup: float = 1.0) -> None:
        self.controller, self.host = controller, host
        self.gripper, self.link = Robotiq(controller), Link()
        self.faults = Faults(controller, self.gripper, self.link)
        self.quit = False
        self.late = self.ticks = 0
        self.busy_s = 0.0
        self._period_s = controller.dt_s / speedup
        self._owners: dict[str, Connection] = {}
        self._make: dict[str, Callable[[socket.socket], Connection]] = {
            "rtde": lambda sock: RtdeConnection(sock, controller, self._owners),
            "dashboard": lambda sock: DashboardConnection(sock, controller),
            "script": lambda sock: ScriptConnection(sock, controller),
            "robotiq": lambda sock: RobotiqConnection(sock, self.gripper),
            "admin": lambda sock: AdminConnection(sock, self),
        }
        self._connections: list[tuple[str, Connection]] = []
        self._listening: dict[int, socket.socket] = {}
        check_loopback(host)
        for port in PORTS:
            self._listen(port)

    def _listen(self, port: int) -> None:
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, port))
            listener.listen(16)
        except OSError as error:
            listener.close()
            raise AffordAgentError(
                f"cannot listen on {self.host}:{port} ({error.strerror}): another emulator may be running there; end "
                "it, or choose another loopback address such as --host 127.0.0.2"
            ) from error
        listener.setblocking(False)
        self._listening[port] = listener

    def run(self, parent: int | None = None) -> None:
        """Until `quit`, or until the parent process has gone."""
        due_s = time.perf_counter() + self._period_s
        while not self.quit:
            if parent is not None and self.ticks % _PARENT_EVERY_TICKS == 0 and os.getppid() != parent:
                return
            wait_s = due_s - time.perf_counter()
            self._serve(max(0.0, wait_s))
            now_s = time.perf_counter()
            if now_s < due_s:
                continue
            if now_s - due_s > self._period_s:  # too late: the controller's time slips, there is no burst of ticks
                self.late += 1
                due_s = now_s
            self._tick()
            due_s += self._period_s

    def _tick(self) -> None:
        begin_s = time.process_time()
        self.controller.tick()
        self.gripper.tick()
        if not self.link.stalled:
            for _, connection in self._connections:
                if isinstance(connection, RtdeConnection):
                    connection.publish()
        self.busy_s += time.process_time() - begin_s
        self.ticks += 1

    # ---- sockets --------------------------------------------------------------------------------------------------

    def _serve(self, timeout_s: float) -> None:
        self.apply_link()
        live = {c.sock: c for service, c in self._connections if service == "admin" or not self.link.stalled}
        doors = {
            listener: PORTS[port]
            for port, listener in self._listening.items()
            if PORTS[port] == "admin" or not self.link.stalled
        }
        unsent = [sock for sock, connection in live.items() if connection.unsent]
        readable, writable, _ = select.select([*live, *doors], unsent, [], timeout_s)
        for sock in writable:
            live[sock].flush()
        for sock in readable:
            if sock in doors:
                self._accept(sock, doors[sock])
            else:
                _receive(live[sock])
        self._reap()

    def _accept(self, listener: socket.socket, service: str) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:  # gone again before it was accepted
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.append((service, self._make[service](sock)))

    def apply_link(self) -> None:
        """Close what the link's faults close, and listen where they no longer do."""
        closed = self.link.refused | self.link.dropped
        self.link.dropped.clear()
        for service, connection in self._connections:
            connection.dead = connection.dead or service in closed
        for port, service in PORTS.items():
            if service in self.link.refused and port in self._listening:
                self._listening.pop(port).close()
            elif service not in self.link.refused and port not in self._listening:
                self._listen(port)
        if closed:
            self._reap()

    def _reap(self) -> None:
        if not any(connection.dead for _, connection in self._connections):
            return
        for _, connection in self._connections:
            if connection.dead:
                connection.sock.close()
        self._connections = [(service, c) for service, c in self._connections if not c.dead]
        live = {id(c) for _, c in self._connections}
        for name in [name for name, owner in self._owners.items() if id(owner) not in live]:
            del self._owners[name]

    def close(self) -> None:
        for _, connection in self._connections:
            connection.sock.close()
        for listener in self._listening.values():
            listener.close()


def _receive(connection: Connection) -> None:
    try:
        data = connection.sock.recv(1 << 16)
    except BlockingIOError:
        return
    except OSError:
        data = b""
    if data:
        connection.feed(data)
    else:
        connection.dead = True


def check_loopback(host: str) -> None:
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise AffordAgentError(
            f"--host {host}: the emulator moves for anybody who connects, so it listens on loopback only; take "
            "127.0.0.1, or another 127.x.x.x"
        )
