"""NVIDIA's GraspGen on another machine, asked through its own ZeroMQ server (github.com/NVlabs/GraspGen).

The protocol: msgpack over a REQ/REP socket. {"action": "metadata"} is answered by {"gripper_name", ...}, {"action":
"infer", "point_cloud": (N, 3) float32, ...} by {"grasps": (M, 4, 4), "confidences": (M,)}, and either by {"error"}.
Arrays have the form of the package msgpack-numpy, which unpickles what a server sends: so it is not used here, and
nothing but numbers is read.

Grasps come in the frame of the points that were sent, as poses of the gripper's base link: +z = approach, x = closing
axis, the tips `depth` further along z (GraspGen's docs/GRIPPER_DESCRIPTION.md).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.geometry import Array, check_rigid
from affordagent.core.types import PartCloud, RgbdFrame
from affordagent.tools.grasping.refine import Refined, tips_of

DEPTH_M = {"franka_panda": 0.10527314, "robotiq_2f_140": 0.195, "robotiq_2f_85": 0.12992}
MOST_POINTS, MOST_GRASPS = 4096, 2000
ASKED_GRASPS = 200
HELLO_S = 3.0
MOST_BYTES = 16 * 2**20
INSTALL = "pip install 'affordagent[graspgen]'"


class GraspGenBackend(Refined):
    """The object's points are sent, in the base frame; of the grasps that come back those on the part are refined.

    url: "tcp://HOST:PORT". timeout_s: for grasps; HELLO_S at most for the first question, which asks for the gripper.
    Nothing is asked twice.
    """

    name = "graspgen"

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        address = re.fullmatch(r"tcp://[^\s:/]+:(\d{1,5})", url)
        if address is None or not 0 < int(address[1]) < 2**16:
            raise AffordAgentError(f"'{url}' is no address of a GraspGen server; it looks like tcp://192.168.1.20:5556")
        self.url, self.timeout_s = url, timeout_s

    def load(self) -> None:
        """See that the packages are there. The server is not asked: it may start later, and another backend serves.

        Raises:
            AffordAgentError: pyzmq or msgpack is not installed.
        """
        try:
            import msgpack  # noqa: F401
            import zmq  # noqa: F401
        except ImportError as error:
            raise AffordAgentError(f"GraspGen's server is asked with pyzmq and msgpack: {INSTALL}") from error

    def gripper_name(self) -> str:
        """The gripper that the server's model grasps with.

        Raises:
            StageFailure: ("propose", tool.unavailable): no answer, or a gripper that is not known here.
        """
        name = self._ask({"action": "metadata"}, min(HELLO_S, self.timeout_s)).get("gripper_name")
        if name not in DEPTH_M:
            raise self._unavailable(f"grasps with {name!r}; start it for one of {', '.join(DEPTH_M)}")
        return str(name)

    def proposals(self, frame: RgbdFrame | None, cloud: PartCloud, rng: np.random.Generator) -> tuple[Array, int]:
        """(G, 4, 4) fingertip poses on the object in the base frame (see `refine`), most confident first, and how many
        there are; the frame is not needed.

        Raises:
            StageFailure: ("propose", tool.unavailable).
        """
        depth_m = DEPTH_M[self.gripper_name()]
        points = cloud.object[rng.permutation(len(cloud.object))[:MOST_POINTS]].astype(np.float32)
        asked = {"point_cloud": _packed(points), "num_grasps": ASKED_GRASPS, "grasp_threshold": -1.0}
        reply = self._ask({"action": "infer", **asked, "topk_num_grasps": ASKED_GRASPS}, self.timeout_s)
        grasps, confidences = self._array(reply, "grasps", (4, 4)), self._array(reply, "confidences", ())
        if len(grasps) != len(confidences):
            raise self._unavailable(f"answers with {len(grasps)} grasps and {len(confidences)} confidences")
        try:
            for i, grasp in enumerate(grasps):
                check_rigid(grasp, f"grasp {i}", tolerance=1e-2)
        except ValueError as error:
            raise self._unavailable(f"answers with a malformed pose: {error}") from error
        return tips_of(grasps[np.argsort(-confidences, kind="stable")], depth_m), len(grasps)

    def _ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The reply to one request, on a socket of its own: one that timed out cannot be used again."""
        import msgpack
        import zmq

        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.MAXMSGSIZE, MOST_BYTES)
            try:
                socket.connect(self.url)
                socket.send(msgpack.packb(request))
                if not socket.poll(int(1e3 * timeout_s)):
                    raise self._unavailable(f"gives no answer within {timeout_s:g} s; look at host, port, firewall")
                reply = msgpack.unpackb(socket.recv(), raw=False, object_hook=_unpacked)
            except zmq.ZMQError as error:
                raise self._unavailable(f"cannot be asked: {error}") from error
            except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
                raise self._unavailable(f"answers in another form: {error}") from error
        if not isinstance(reply, dict):
            raise self._unavailable(f"answers with {type(reply).__name__}, a dictionary is expected")
        if "error" in reply:
            raise self._unavailable(f"says: {str(reply['error'])[:300]}")
        return reply

    def _array(self, reply: dict[str, Any], name: str, row: tuple[int, ...]) -> Array:
        array = reply.get(name)
        if not isinstance(array, np.ndarray) or array.shape[1:] != row or array.ndim != 1 + len(row):
            found = array.shape if isinstance(array, np.ndarray) else type(array).__name__
            raise self._unavailable(f"answers with {name} of {found}, {('N', *row)} is expected")
        if len(array) > MOST_GRASPS or not np.isfinite(array).all():
            raise self._unavailable(f"answers with {len(array)} {name}, at most {MOST_GRASPS} finite ones are taken")
        return array.astype(float)

    def _unavailable(self, why: str) -> StageFailure:
        return StageFailure("propose", "tool.unavailable", f"the GraspGen server {self.url} {why}", server=self.url)


def _packed(array: NDArray[np.float32]) -> dict[bytes, Any]:
    """An array as msgpack-numpy writes it."""
    return {
        b"nd": True,
        b"type": array.dtype.str,
        b"kind": b"",
        b"shape": array.shape,
        b"data": np.ascontiguousarray(array).tobytes(),
    }


def _unpacked(value: dict[Any, Any]) -> Any:
    """What msgpack-numpy wrote, numbers and arrays of them only.

    Raises:
        ValueError: objects or structures, which would have to be unpickled, or data of another size.
    """
    if b"nd" not in value:
        return value
    kind = np.dtype(value[b"type"]) if isinstance(value[b"type"], str) else np.dtype(object)
    if kind.kind not in "fiub" or value.get(b"kind"):
        raise ValueError(f"an array of {str(value[b'type'])[:40]}: only numbers are read")
    array = np.frombuffer(value[b"data"], kind)
    return array.reshape(value[b"shape"]) if value[b"nd"] else array[0]
