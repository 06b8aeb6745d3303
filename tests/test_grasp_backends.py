"""Backends: their table, refinement of foreign poses, files of other programs, GraspGen's protocol, stand-ins."""

import threading
import time
from contextlib import contextmanager
from dataclasses import MISSING, fields

import numpy as np
import pytest

from affordagent.agent.cli import main
from affordagent.agent.session import Tools
from affordagent.agent.settings import Settings
from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.geometry import invert, look_at, rigid, transform_points
from affordagent.core.run_store import RunStore
from affordagent.core.types import FunctionalQuery, Grasp, PartCloud, PartMask, RgbdFrame
from affordagent.graphs.stages import _proposed
from affordagent.graphs.state import Workbench
from affordagent.tools.grasping import learned
from affordagent.tools.grasping.antipodal import Antipodal
from affordagent.tools.grasping.backends import WITH_WEIGHTS, open_backend
from affordagent.tools.grasping.completion import Surface
from affordagent.tools.grasping.external import NpyBackend
from affordagent.tools.grasping.file_format import from_array, load_npy, save_npy, tip_poses, to_array
from affordagent.tools.grasping.graspgen import DEPTH_M, GraspGenBackend
from affordagent.tools.grasping.gripper import ROBOTIQ_2F85
from affordagent.tools.grasping.propose import propose
from affordagent.tools.grasping.refine import refine, tips_of

DOWN = np.diag([1.0, -1.0, -1.0])  # a tcp that comes from above, its closing axis along -y
BAR_M = np.array([0.14, 0.03, 0.03])  # on the table, along x
BAR_AT = np.array([0.45, 0.10, 0.015])


def bar_surface(step=0.0025):
    points, normals = [], []
    for axis in range(3):
        for side in (-1, 1):
            spans = [np.arange(-BAR_M[k] / 2, BAR_M[k] / 2 + 1e-9, step) for k in range(3) if k != axis]
            plane = np.stack(np.meshgrid(*spans), -1).reshape(-1, 2)
            points.append(np.insert(plane, axis, side * BAR_M[axis] / 2, axis=1) + BAR_AT)
            normals.append(np.tile(np.eye(3)[axis] * side, (len(plane), 1)))
    points, normals = np.concatenate(points), np.concatenate(normals)
    return Surface(points, normals, normals[:, 2] > 0.5, step)


def bar_cloud():
    surface = bar_surface(0.002)
    seen = (surface.normals[:, 2] > 0.5) | (surface.normals[:, 1] < -0.5)
    points, camera = surface.points[seen], np.array([0.45, -0.5, 0.7])
    return PartCloud(points, surface.normals[seen], points, np.zeros((0, 3)), 0.0, camera, 1.0)


def bar_frame():
    """A picture of the bar on its table, drawn by casting rays at a box and a plane."""
    camera = CameraIntrinsics(320, 240, 300.0, 300.0, 159.5, 119.5)
    T = look_at([0.45, -0.5, 0.7], BAR_AT)
    rays = camera.back_project(np.ones((240, 320), np.float32)).reshape(-1, 3) @ T[:3, :3].T
    with np.errstate(divide="ignore", invalid="ignore"):
        to_table = -T[2, 3] / rays[:, 2]
        planes = np.stack([(BAR_AT + side * BAR_M / 2 - T[:3, 3]) / rays for side in (-1, 1)])
    near, far = planes.min(0).max(1), planes.max(0).min(1)
    depth = np.where((near < far) & (near > 0), near, to_table)
    depth = np.where((depth > 0) & (depth < 3), depth, 0).reshape(240, 320).astype(np.float32)
    return RgbdFrame(np.zeros((240, 320, 3), np.uint8), depth, camera, T)


def turned(axis, degrees):
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(np.radians(degrees) * np.eye(3)["xyz".index(axis)]).as_matrix()


def test_the_table_of_backends():
    assert isinstance(open_backend("antipodal"), Antipodal)
    where = {"FILE": "some/file", "tcp://HOST:PORT": "tcp://127.0.0.1:5556"}
    for kind, (form, _) in WITH_WEIGHTS.items():
        assert open_backend(f"{kind}:{where[form]}").name == kind
    for bad in ("", "antipodal:x", "contact-graspnet", "contact-graspnet:", "magic:x"):
        with pytest.raises(AffordAgentError, match="unknown grasp backend.*graspgen:tcp://HOST:PORT"):
            open_backend(bad)


@pytest.mark.parametrize("kind", ["contact-graspnet", "graspnet-baseline", "npy"])
def test_missing_files_are_said_at_the_start(kind, tmp_path):
    with pytest.raises(AffordAgentError, match=r"cannot read .*none\.pth"):
        open_backend(f"{kind}:{tmp_path / 'none.pth'}").load()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no .npy file of numbers"),
        (b"garbage", "no .npy file of numbers"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': ((((((", "no .npy file of numbers"),
        (np.array([{"a": 1}]), "no .npy file of numbers"),
        (np.zeros((2, 17), complex), "complex128, numbers are expected"),
        (np.array([["a"] * 17]), "<U1, numbers are expected"),
        (np.zeros((2, 16)), r"shape \(N, 17\), got \(2, 16\)"),
        (np.zeros(17), r"shape \(N, 17\), got \(17,\)"),
        (np.full((2, 17), np.nan), "NaN"),
        (np.zeros((2, 17)), "row 0 has no right-handed rotation"),
    ],
)
def test_files_that_hold_no_grasps_are_said_at_the_start(content, says, tmp_path):
    path = tmp_path / "grasps.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(AffordAgentError, match=f"cannot read the grasps .*{says}") as e:
        open_backend(f"npy:{path}").load()
    assert "allow_pickle" not in str(e.value)


def test_a_rough_pose_is_put_amid_the_bar():
    off = rigid(DOWN @ turned("z", 9) @ turned("x", 5), BAR_AT + [0.02, 0.006, 0.0])
    found = refine(off[None], bar_surface(), ROBOTIQ_2F85, 0.0, "test", 1)
    assert len(found) == 1
    (T,) = found.T_base_tcp
    assert found.width_m[0] == pytest.approx(BAR_M[1], abs=2e-3)
    assert abs(T[1, 1]) > np.cos(np.radians(1.0))  # the closing axis is across the bar
    assert T[1, 3] == pytest.approx(BAR_AT[1], abs=1e-3)
    assert found.quality[0] > 0.99
    tip_z = T[2, 3] - ROBOTIQ_2F85.tip_past_tcp_m(found.width_m[0])
    assert ROBOTIQ_2F85.table_clearance_m - 1e-3 < tip_z < BAR_AT[2]


def test_what_has_no_part_between_its_fingers_is_dropped_and_counted():
    away = rigid(DOWN, BAR_AT + [0.0, 0.0, 0.2])
    along = rigid(DOWN @ turned("z", 90), BAR_AT)  # closes along the bar, which is too long for that
    with pytest.raises(StageFailure, match="sees 7 grasps in the scene, 2 of them on the part; 0 have it between") as e:
        refine(np.stack([away, along]), bar_surface(), ROBOTIQ_2F85, 0.0, "test", 7)
    assert e.value.code == "grasp.none"
    assert e.value.evidence == {"in_scene": 7, "on_part": 2, "between_fingers": 0, "antipodal": 0}
    with pytest.raises(StageFailure, match="sees 0 grasps") as e:
        refine(np.zeros((0, 4, 4)), bar_surface(), ROBOTIQ_2F85, 0.0, "test", 0)
    assert e.value.code == "grasp.none"


def test_from_below_nothing_is_reached():
    below = rigid(np.eye(3), BAR_AT)
    with pytest.raises(StageFailure, match="can be reached from above") as e:
        refine(below[None], bar_surface(), ROBOTIQ_2F85, 0.0, "test", 1)
    assert e.value.code == "grasp.collides_surface"


def test_hands_that_close_along_x():
    """A Panda 10.34 cm above a contact, and GraspGen's grippers, name closing and approach in the same way."""
    T_hand = rigid(np.stack([[0, 1.0, 0], [1.0, 0, 0], [0, 0, -1.0]], 1), [0.4, 0, 0.3])
    (T_tip,) = tips_of(T_hand[None], 0.1)
    np.testing.assert_allclose(T_tip[:3, 3], [0.4, 0, 0.2], atol=1e-12)
    np.testing.assert_allclose(T_tip[:3, 1], [0, 1, 0], atol=1e-12)  # closing
    np.testing.assert_allclose(T_tip[:3, 2], [0, 0, -1], atol=1e-12)  # approach
    assert np.linalg.det(T_tip[:3, :3]) == pytest.approx(1)


def test_tips_of_rows_agree_with_the_grasps_they_stand_for():
    rng = np.random.default_rng(0)
    R = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(20)]
    grasps = [
        Grasp(rigid(r * np.linalg.det(r), rng.normal(size=3)), w, 0.5)
        for r, w in zip(R, rng.uniform(0, 0.08, 20), strict=True)
    ]
    rows = to_array(grasps)
    for T_tip, grasp in zip(tip_poses(rows), grasps, strict=True):
        tip = grasp.T_base_tcp @ [0, 0, ROBOTIQ_2F85.tip_past_tcp_m(grasp.width_m), 1]
        np.testing.assert_allclose(T_tip[:3, 3], tip[:3], atol=1e-12)
        np.testing.assert_allclose(T_tip[:3, :3], grasp.T_base_tcp[:3, :3], atol=1e-12)
    rows[3, 4:13] *= 1.1
    with pytest.raises(ValueError, match="row 3"):
        from_array(rows)
    rows[3, 4] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        from_array(rows)


def test_grasps_of_another_program_serve_the_part(tmp_path):
    """A run's own grasps written to graspnetAPI's file and read back through the backend stay where they were."""
    cloud, frame = bar_cloud(), bar_frame()
    own = propose(cloud)
    far = [Grasp(rigid(DOWN, [0.45, 0.4, 0.1]), 0.03, 1.0)]  # of another thing: not on the part
    save_npy(tmp_path / "grasps.npy", [*own, *far], frame.T_base_camera)
    backend = NpyBackend(tmp_path / "grasps.npy")
    backend.load()
    again = propose(cloud, backend=backend, frame=frame)
    assert again.backend == "npy"
    assert len(again) > 0.6 * len(own)
    tips = own.T_base_tcp[:, :3, 3]
    for grasp in again:
        assert np.linalg.norm(tips - grasp.T_base_tcp[:3, 3], axis=1).min() < 0.012
    with pytest.raises(StageFailure, match="T_base_camera"):
        propose(cloud, backend=backend)
    (tmp_path / "grasps.npy").write_bytes(b"garbage")
    with pytest.raises(StageFailure, match="cannot read the grasps") as e:
        propose(cloud, backend=backend, frame=frame)
    assert e.value.code == "tool.unavailable"


def test_scene_points_hold_table_and_part():
    cloud, frame = bar_cloud(), bar_frame()
    T, points, of_part = learned.scene_points(frame, cloud, np.random.default_rng(0), "test")
    assert np.array_equal(T, frame.T_base_camera)
    assert len(points) <= learned.SCENE_POINTS
    table = np.abs(points[of_part:, 2]) < 1e-3
    assert 0.5 < table.mean() < 1
    part = {tuple(p) for p in cloud.part}
    assert all(tuple(p) in part for p in points[:of_part])
    blind = RgbdFrame(frame.color, np.zeros_like(frame.depth_m), frame.camera, frame.T_base_camera)
    for bad in (None, blind):
        with pytest.raises(StageFailure) as e:
            learned.scene_points(bad, cloud, np.random.default_rng(0), "test")
        assert e.value.code == "tool.unavailable"


class ContactsFromAbove:
    """In the network's place: each contact is a grasp from above across the bar."""

    def __init__(self):
        self.asked = []

    def __call__(self, xyz, contacts):
        import torch

        from affordagent.tools.grasping.networks.contact_graspnet import ContactGrasps

        self.asked.append((xyz.numpy().copy(), contacts.numpy().copy()))
        count = len(contacts)
        rotation = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]]).expand(count, 3, 3)  # x = closing = +y
        return ContactGrasps(torch.rand(count), xyz[contacts], rotation, torch.full((count,), 0.03))


def test_contact_graspnet_sees_the_scene_and_serves_the_part(tmp_path):
    cloud, frame = bar_cloud(), bar_frame()
    backend = learned.ContactGraspNetBackend(tmp_path / "none.pth")
    network = ContactsFromAbove()
    vars(backend)["_network"] = network  # a cached property
    T, asked = backend.proposals(frame, cloud, np.random.default_rng(3))
    (xyz, contacts) = network.asked[0]
    assert asked == len(contacts) == 2048
    np.testing.assert_allclose(xyz.mean(0), 0, atol=1e-5)
    assert np.ptp(xyz[:, :2], axis=0).max() > 0.6  # the whole scene ...
    assert len(np.unique(contacts)) > 1500
    tips = T[:, :3, 3]
    assert len(T) == learned.MOST  # ... and only grasps at the bar
    assert (np.abs(tips - BAR_AT)[:, 0] < BAR_M[0] / 2 + 0.005).all()
    np.testing.assert_allclose(T[:, :3, 2], np.tile([0, 0, -1.0], (len(T), 1)), atol=1e-6)
    found = propose(cloud, backend=backend, frame=frame, rng_seed=3)
    assert found.backend == "contact-graspnet"
    assert np.median(np.abs(found.T_base_tcp[:, 1, 3] - BAR_AT[1])) < 0.004
    again = propose(cloud, backend=backend, frame=frame, rng_seed=3)
    np.testing.assert_array_equal(network.asked[1][1], network.asked[2][1])
    assert len(again) > 0


@contextmanager
def graspgen_server(reply_to):
    """A server that speaks GraspGen's protocol with GraspGen's own packages; reply_to(request) -> dict or bytes."""
    import msgpack
    import zmq

    msgpack_numpy = pytest.importorskip("msgpack_numpy")
    context = zmq.Context()
    socket = context.socket(zmq.REP)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            if socket.poll(50):
                request = msgpack.unpackb(socket.recv(), raw=False, object_hook=msgpack_numpy.decode)
                reply = reply_to(request)
                packed = reply if isinstance(reply, bytes) else msgpack.packb(reply, default=msgpack_numpy.encode)
                socket.send(packed)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        stop.set()
        thread.join(5)
        socket.close(0)
        context.term()


def hands_on_the_bar(count=30):
    """Base-link poses of a Panda from above, its fingers across the bar and 1 cm past its top."""
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = np.stack([[0, 1.0, 0], [1.0, 0, 0], [0, 0, -1.0]], 1)
    T[:, :3, 3] = (
        BAR_AT
        + np.c_[np.linspace(-0.05, 0.05, count), np.full(count, 0.004), np.full(count, 0.005 + DEPTH_M["franka_panda"])]
    )
    return T.astype(np.float32)


def graspgen(infer, gripper="franka_panda"):
    def reply_to(request):
        if request["action"] == "metadata":
            return {"gripper_name": gripper, "model_name": "diffusion-discriminator", "gripper_config": "x.yml"}
        return infer(request)

    return reply_to


def test_graspgen_by_its_own_protocol():
    asked = []

    def infer(request):
        asked.append(request)
        grasps = hands_on_the_bar()
        return {
            "grasps": grasps,
            "confidences": np.linspace(0, 1, len(grasps)).astype(np.float32),
            "timing": {"infer_ms": 3.0},
        }

    cloud = bar_cloud()
    with graspgen_server(graspgen(infer)) as url:
        backend = GraspGenBackend(url, timeout_s=10)
        backend.load()
        assert backend.gripper_name() == "franka_panda"
        found = propose(cloud, backend=backend)
        best_first, _ = backend.proposals(None, cloud, np.random.default_rng(0))
    request = asked[0]
    assert request["action"] == "infer"
    assert request["point_cloud"].dtype == np.float32
    assert request["point_cloud"].shape == (len(cloud.object), 3)
    assert set(map(tuple, request["point_cloud"])) == set(map(tuple, cloud.object.astype(np.float32)))
    assert found.backend == "graspgen"
    np.testing.assert_allclose(found.T_base_tcp[:, 1, 3], BAR_AT[1], atol=2e-3)
    np.testing.assert_allclose(found.width_m, BAR_M[1], atol=5e-3)
    assert best_first[0, 0, 3] > best_first[-1, 0, 3]


def array(values):
    return np.asarray(values, np.float32)


@pytest.mark.parametrize(
    ("infer", "message"),
    [
        (lambda r: {"error": "CUDA out of memory"}, "says: CUDA out of memory"),
        (lambda r: {"grasps": array(np.eye(4)), "confidences": array([1])}, r"grasps of \(4, 4\)"),
        (lambda r: {"grasps": "many", "confidences": array([1])}, "grasps of str"),
        (lambda r: {"grasps": array([2 * np.eye(4)]), "confidences": array([1])}, "malformed pose: grasp 0"),
        (lambda r: {"grasps": array([np.eye(4)]), "confidences": array([1, 2])}, "1 grasps and 2 confidences"),
        (lambda r: {"grasps": array([np.eye(4) * np.nan]), "confidences": array([1])}, "finite"),
        (lambda r: {"grasps": np.zeros((5000, 4, 4), np.float32), "confidences": array([1])}, "at most 2000"),
        (lambda r: {"grasps": np.array([{}, None]), "confidences": array([1])}, "only numbers are read"),
        (lambda r: b"\xc1 not msgpack", "another form"),
        (lambda r: b"\x93\x01\x02\x03", "list, a dictionary is expected"),
    ],
)
def test_what_a_server_may_answer_wrongly(infer, message):
    with graspgen_server(graspgen(infer)) as url, pytest.raises(StageFailure, match=message) as e:
        GraspGenBackend(url, timeout_s=10).proposals(None, bar_cloud(), np.random.default_rng(0))
    assert e.value.code == "tool.unavailable"
    assert e.value.evidence["server"] == url


def test_a_server_for_another_gripper_one_that_is_silent_and_none():
    with graspgen_server(graspgen(None, gripper="single_suction_cup_30mm")) as url:
        with pytest.raises(StageFailure, match="suction.*franka_panda, robotiq_2f_140") as e:
            GraspGenBackend(url, timeout_s=10).gripper_name()
    assert e.value.code == "tool.unavailable"
    start = time.monotonic()
    with pytest.raises(StageFailure, match="no answer within 0.2 s"):
        GraspGenBackend("tcp://127.0.0.1:9", timeout_s=0.2).gripper_name()
    assert time.monotonic() - start < 5
    for bad in ("http://host:1", "host:5556", "tcp://host", "tcp://host:port"):
        with pytest.raises(AffordAgentError, match="no address of a GraspGen server"):
            GraspGenBackend(bad)


class Fails:
    name = "fails"

    def load(self):
        pass

    def candidates(self, frame, cloud, part, gripper, rng):
        raise StageFailure("propose", "grasp.none", "has none", seen=3)


def bench_with(backend, cloud, frame):
    """What the stage reads of its workbench."""
    mask = frame.depth_m > 0
    query = FunctionalQuery(text="pick up the bar", intent="pick")
    artefacts = {"cloud": cloud, "frame": frame, "part_mask": PartMask(mask, mask, 1.0, "test"), "query": query}
    given = {"store": artefacts, "seed": 0, "grasp_backend": backend}
    needed = [f.name for f in fields(Workbench) if f.default is MISSING and f.default_factory is MISSING]
    return Workbench(**{**dict.fromkeys(needed), **given})


def test_where_a_backend_has_nothing_the_own_sampler_serves():
    cloud, frame = bar_cloud(), bar_frame()
    grasps, why = _proposed(bench_with(GraspGenBackend("tcp://127.0.0.1:9", timeout_s=0.1), cloud, frame))
    assert grasps.backend == "antipodal"
    assert (why["backend"], why["code"]) == ("graspgen", "tool.unavailable")
    grasps, why = _proposed(bench_with(Fails(), cloud, frame))
    assert grasps.backend == "antipodal"
    assert why == {"backend": "fails", "code": "grasp.none", "message": "has none", "seen": 3}
    _, why = _proposed(bench_with(Antipodal(), cloud, frame))
    assert why == {}


def test_where_the_own_sampler_fails_too_both_reasons_are_kept():
    cloud, frame = bar_cloud(), bar_frame()
    too_small = PartCloud(**{**vars(cloud), "part": cloud.part[:5], "part_normals": cloud.part_normals[:5]})
    for backend in (Fails(), Antipodal()):
        with pytest.raises(StageFailure, match="the part has 5 points") as e:
            _proposed(bench_with(backend, too_small, frame))
        assert ("instead_of" in e.value.evidence) == (backend.name == "fails")


def test_the_bar_of_these_tests_is_where_the_camera_sees_it():
    frame = bar_frame()
    points = transform_points(frame.T_base_camera, frame.camera.back_project(frame.depth_m)[frame.depth_m > 0])
    on_top = np.abs(points[:, 2] - BAR_M[2]) < 1e-4
    assert on_top.sum() > 200
    assert (np.abs(points[on_top] - BAR_AT)[:, :2] <= BAR_M[:2] / 2 + 1e-4).all()
    assert np.allclose(invert(frame.T_base_camera) @ frame.T_base_camera, np.eye(4))


def test_a_runs_grasps_as_a_file(tmp_path, capsys):
    cloud, frame = bar_cloud(), bar_frame()
    own, store = propose(cloud), RunStore(tmp_path / "run")
    assert main(["grasps", str(tmp_path / "run")]) == 2
    assert "holds no grasps" in capsys.readouterr().err
    store.put("frame", frame)
    store.put("grasps", (own, frame.T_base_camera))
    assert main(["grasps", str(tmp_path / "run"), "--npy", str(tmp_path / "grasps.npy")]) == 0
    said = capsys.readouterr().out
    assert f"{len(own)} grasps of a Robotiq 2F-85, proposed by antipodal" in said
    read = load_npy(tmp_path / "grasps.npy", frame.T_base_camera)
    np.testing.assert_allclose([g.T_base_tcp for g in read], own.T_base_tcp, atol=1e-5)
    assert main(["grasps", str(tmp_path / "run"), "--npy", str(tmp_path / "base.dat"), "--base"]) == 0
    np.testing.assert_allclose([g.T_base_tcp for g in load_npy(tmp_path / "base.dat")], own.T_base_tcp, atol=1e-5)
    assert main(["grasps", str(tmp_path / "run"), "--npy", str(tmp_path)]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_the_setting_reaches_the_tools():
    assert isinstance(Tools(grasps=Settings().grasps).grasp_backend, Antipodal)
    assert Tools(grasps=Settings(grasps="npy:grasps.npy").grasps).grasp_backend.path.name == "grasps.npy"
    with pytest.raises(AffordAgentError, match="grasps"):
        Settings.load(None, grasps="")
