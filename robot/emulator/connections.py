"""Connections of the controller's sockets: never blocking, buffered both ways."""

from __future__ import annotations

import socket

_MOST_UNSENT_BYTES = 1 << 20


class Connection:
    """One client. `dead` once it has gone or must go; the server closes it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.unsent, self.buffer, self.dead = sock, b"", b"", False

    def feed(self, data: bytes) -> None:
        """Data has arrived."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        self.unsent += data
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes; a client that does not read for too long is dropped."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            self.dead = self.dead or len(self.unsent) > _MOST_UNSENT_BYTES
        except OSError:
            self.dead = True


class LineConnection(Connection):
    """One answer a line; answers to lines that came together leave together."""

    def feed(self, data: bytes) -> None:
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        answers = [self.answer(line.decode("utf-8", "replace").rstrip("\r")) for line in lines]
        if any(answers):
            self.send(b"".join(answers))

    def answer(self, line: str) -> bytes:
        """Bytes to send back, perhaps none."""
        raise NotImplementedError
