"""Point operations against brute force; Contact-GraspNet and GraspNet-baseline in the true formats, random weights."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affordagent.core.errors import AffordAgentError
from affordagent.tools.grasping.networks import graspnet_baseline as baseline
from affordagent.tools.grasping.networks.contact_graspnet import (
    PANDA_CONTACT_M,
    ContactGraspNet,
    ContactGrasps,
    load_contact_graspnet,
)
from affordagent.tools.grasping.networks.pointnet2 import (
    ball_query,
    cylinder_query,
    farthest_points,
    interpolate,
    three_nearest,
)

CGN_WEIGHTS = os.environ.get("AFFORDAGENT_CGN_WEIGHTS")

clouds = st.builds(
    lambda seed, count, step: np.round(np.random.default_rng(seed).uniform(-1, 1, (count, 3)) / step) * step,
    st.integers(0, 10_000),
    st.integers(4, 60),
    st.sampled_from([1e-6, 0.25]),  # a coarse grid has many equal distances
)


def squared(a, b):
    """(len(a), len(b)) squared distances, summed as the kernels do, float32."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    d = a[:, None] - b[None]
    return (d[..., 0] ** 2 + d[..., 1] ** 2) + d[..., 2] ** 2


@given(clouds, st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_farthest_points(points, count):
    count = min(count, len(points))
    found = farthest_points(torch.from_numpy(points).float(), count).numpy()
    nearest, expected = squared(points, points[:1])[:, 0], [0]
    while len(expected) < count:
        expected.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, squared(points, points[expected[-1:]])[:, 0])
    assert found.tolist() == expected
    again = farthest_points(torch.from_numpy(points[found]).float(), min(5, count))
    if len(np.unique(points, axis=0)) == len(points):
        assert again.tolist() == list(range(len(again)))  # order is kept


def test_too_few_points_to_sample():
    with pytest.raises(ValueError, match="5 of 4 points"):
        farthest_points(torch.zeros(4, 3), 5)


@given(clouds, st.floats(0.1, 1.5), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_ball_query_takes_the_lowest_indices(points, radius, limit):
    centres = np.concatenate([points[::3], [[9.0, 9, 9]]])  # the last one sees nothing
    small, large = ball_query(
        torch.from_numpy(points).float(), torch.from_numpy(centres).float(), (radius / 2, radius), limit
    )
    for groups, r in ((small, radius / 2), (large, radius)):
        padded = groups.index[groups.padded(limit)].numpy()
        for row, near in zip(padded, squared(centres, points) < np.float32(r * r), strict=True):
            expected = np.flatnonzero(near)[:limit]
            expected = expected if len(expected) else np.zeros(1, int)
            assert row.tolist() == [*expected, *[expected[0]] * (limit - len(expected))]
        values = torch.arange(len(groups.index), dtype=torch.float32)[:, None]
        assert (groups.maximum(values)[:, 0] == torch.cumsum(groups.count, 0) - 1).all()


@given(clouds, st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_cylinder_query(points, seed):
    rng = np.random.default_rng(seed)
    rotation = np.stack([np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in points[::4]]).astype(np.float32)
    centres, radius, low, highs = points[::4], 0.5, -0.2, (0.1, 0.6)
    found = cylinder_query(
        torch.from_numpy(points).float(),
        torch.from_numpy(centres).float(),
        torch.from_numpy(rotation),
        radius,
        low,
        highs,
        4,
    )
    for groups, high in zip(found, highs, strict=True):
        padded = groups.index[groups.padded(4)].numpy()
        for row, centre, R in zip(padded, centres, rotation, strict=True):
            x, y, z = ((points - centre) @ R).T
            inside = (y**2 + z**2 < radius**2 - 1e-5) & (x > low + 1e-5) & (x < high - 1e-5)
            maybe = (y**2 + z**2 < radius**2 + 1e-5) & (x > low - 1e-5) & (x < high + 1e-5)
            if (inside == maybe).all():  # no point on the border, where rounding decides
                expected = np.flatnonzero(inside)[:4]
                assert set(row) == set(expected if len(expected) else [0])


@given(clouds, clouds)
@settings(max_examples=40, deadline=None)
def test_interpolation_from_the_three_nearest(points, known):
    square, index = three_nearest(torch.from_numpy(points).float(), torch.from_numpy(known).float())
    expected = np.sort(squared(points, known), axis=1)[:, :3]
    np.testing.assert_allclose(square.numpy(), expected, atol=1e-5)
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(len(known), 5)))
    weight = 1 / square.double().clamp(min=1e-9)
    by_hand = np.stack(
        [np.average(features[i].numpy(), axis=0, weights=w) for i, w in zip(index, weight.numpy(), strict=True)]
    )
    np.testing.assert_allclose(interpolate(features, index, weight).numpy(), by_hand, atol=1e-9)


def cgn_shapes():
    """Names and shapes of cgn-pytorch 0.4.3's checkpoint, written down from the file."""
    shapes = {}

    def block(name, widths):
        for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            shapes[f"{name}.{i}.0.weight"], shapes[f"{name}.{i}.0.bias"] = (b, a), (b,)
            norm(f"{name}.{i}.2", b)

    def norm(name, width):
        for field in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{field}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()

    levels = [
        (3, [(32, 32, 64), (64, 64, 128), (64, 96, 128)]),
        (323, [(64, 64, 128), (128, 128, 256), (128, 128, 256)]),
        (643, [(64, 64, 128), (128, 128, 256), (128, 128, 256)]),
    ]
    for i, (inward, scales) in enumerate(levels):
        for j, widths in enumerate(scales):
            block(f"set_abstract_msg.{i}.{j}.conv.local_nn", (inward, *widths))
    block("set_abstract_final", (640, 256, 512, 1024))
    for i, widths in enumerate([(1280, 256, 256), (896, 256, 128), (448, 128, 128, 128)]):
        block(f"feat_prop.{i}.nn", widths)
    for i, channels in enumerate((1, 3, 3, 1)):
        for layer, shape in ((0, (128, 131, 1)), (3, (channels, 128, 1))):
            shapes[f"multihead.{i}.{layer}.weight"], shapes[f"multihead.{i}.{layer}.bias"] = shape, shape[:1]
        norm(f"multihead.{i}.1", 128)
    return shapes


def baseline_shapes():
    """Names and shapes of graspnet-baseline's state dict, written down from its published source."""
    shapes = {}

    def norm(name, width):
        for field in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{field}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()

    def shared(name, widths):
        for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            shapes[f"{name}.layer{i}.conv.weight"] = (b, a, 1, 1)
            norm(f"{name}.layer{i}.bn.bn", b)

    def head(name, inward, middle, outward):
        for i, (a, b) in enumerate([(inward, middle[0]), middle, (middle[1], outward)], 1):
            shapes[f"{name}.conv{i}.weight"], shapes[f"{name}.conv{i}.bias"] = (b, a, 1), (b,)
        for i, width in enumerate(middle, 1):
            norm(f"{name}.bn{i}", width)

    backbone = "view_estimator.backbone"
    shared(f"{backbone}.sa1.mlp_module", (3, 64, 64, 128))
    shared(f"{backbone}.sa2.mlp_module", (131, 128, 128, 256))
    shared(f"{backbone}.sa3.mlp_module", (259, 128, 128, 256))
    shared(f"{backbone}.sa4.mlp_module", (259, 128, 128, 256))
    shared(f"{backbone}.fp1.mlp", (512, 256, 256))
    shared(f"{backbone}.fp2.mlp", (512, 256, 256))
    head("view_estimator.vpmodule", 256, (256, 302), 302)
    shared("grasp_generator.crop.mlps", (3, 64, 128, 256))
    head("grasp_generator.operation", 256, (128, 128), 36)
    head("grasp_generator.tolerance", 256, (128, 128), 12)
    return shapes


def random_state(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def tensor(name, shape):
        if name.endswith("num_batches_tracked"):
            return torch.tensor(1000)
        if name.endswith("running_var"):
            return torch.rand(shape, generator=generator) + 0.5
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 10
        return torch.randn(shape, generator=generator) * (2 / max(fan_in, 1)) ** 0.5

    return {name: tensor(name, shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def cgn_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cgn") / "current.pth"
    optimizer = {"state": {0: {"step": 5, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.001}]}
    torch.save({"state_dict": random_state(cgn_shapes()), "optimizer": optimizer, "epoch": 7}, path)
    return path


@pytest.fixture(scope="module")
def baseline_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("graspnet") / "checkpoint-rs.tar"
    optimizer = {"state": {}, "param_groups": [{"lr": 0.001}]}
    weights = random_state(baseline_shapes())
    torch.save(
        {"epoch": 18, "optimizer_state_dict": optimizer, "loss": torch.tensor(0.5), "model_state_dict": weights}, path
    )
    return path


BLOCK_M = np.array([0.16, 0.04, 0.04])


def table_with_a_block(count, seed=0):
    """(count, 3) float32 shuffled points of a block on a table, z up, mean-centred."""
    rng = np.random.default_rng(seed)
    table = np.c_[rng.uniform(-0.4, 0.4, (count * 3 // 4, 2)), np.zeros(count * 3 // 4)]
    block = rng.uniform(-1, 1, (count - len(table), 3))
    rows = np.arange(len(block))
    block[rows, rng.integers(0, 3, len(block))] = rng.choice([-1, 1], len(block))  # on its faces
    block = block * BLOCK_M / 2 + [0, 0, BLOCK_M[2] / 2]
    points = rng.permutation(np.concatenate([table, block]))
    return torch.from_numpy((points - points.mean(0)).astype(np.float32))


def test_contact_graspnet_reads_its_format(cgn_file):
    network = load_contact_graspnet(cgn_file)
    shapes = cgn_shapes()
    assert len(shapes) == 295
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == shapes
    assert not network.training
    state = torch.load(cgn_file, weights_only=True)["state_dict"]
    assert all(torch.equal(t, state[name]) for name, t in network.state_dict().items())


def test_contact_graspnet_answers(cgn_file):
    network = load_contact_graspnet(cgn_file)
    xyz = table_with_a_block(3000)
    contacts = farthest_points(xyz, 640)
    one, two = network(xyz, contacts), network(xyz, contacts)
    assert torch.equal(one.contact, xyz[contacts])
    assert one.score.shape == (640,)
    assert ((one.score >= 0) & (one.score <= 1)).all()
    assert one.score.std() > 0
    eye = torch.eye(3).expand(640, 3, 3)
    torch.testing.assert_close(one.rotation.mT @ one.rotation, eye, atol=1e-4, rtol=0)
    assert (torch.linalg.det(one.rotation) > 0.99).all()
    assert torch.equal(one.T_hand, two.T_hand)


def test_contact_graspnet_is_that_of_the_paper_on_a_small_scene():
    """The split first layer gives what the plain formula gives: the maximum of the MLP of [x, p - c]."""
    torch.manual_seed(0)
    scale = ContactGraspNet().eval().set_abstract_msg[1][0]
    xyz, features = torch.rand(300, 3), torch.rand(300, 320)
    centres = xyz[:20]
    (groups,) = ball_query(xyz, centres, (0.3,), 64)
    with torch.inference_mode():
        found = scale(features, xyz, centres, groups)
        for i in range(20):
            index = groups.index[groups.centre == i]
            inward = torch.cat([features[index], xyz[index] - centres[i]], 1)
            torch.testing.assert_close(found[i], scale.conv.local_nn(inward).amax(0), atol=2e-5, rtol=1e-4)


def test_panda_pose_from_contact():
    rotation = torch.tensor([[[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]])  # closes along x, comes from above
    grasps = ContactGrasps(torch.ones(1), torch.tensor([[0.5, 0.1, 0.2]]), rotation, torch.tensor([0.04]))
    np.testing.assert_allclose(grasps.T_hand[0, :3, 3], [0.52, 0.1, 0.2 + PANDA_CONTACT_M], atol=1e-6)


def test_graspnet_baseline_reads_its_format(baseline_file):
    network = baseline.load_graspnet(baseline_file)
    shapes = baseline_shapes()
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == shapes


def test_graspnet_baseline_answers(baseline_file):
    network = baseline.load_graspnet(baseline_file)
    xyz = table_with_a_block(3000) + torch.tensor([0, 0, 0.6])
    predictions = network(xyz)
    assert predictions.seeds.shape == (1024, 3)
    assert predictions.score.shape == (1024, 4, 12)
    seeds = set(map(tuple, xyz.tolist()))
    assert all(tuple(seed) in seeds for seed in predictions.seeds.tolist())
    everything = baseline.Predictions(**{**vars(predictions), "objectness": torch.tensor([0.0, 1.0]).expand(1024, 2)})
    rows = baseline.decode(everything)
    assert rows.shape == (1024, 17)
    assert set(np.round(rows[:, 3], 6)) <= {0.01, 0.02, 0.03, 0.04}
    assert ((rows[:, 1] >= 0) & (rows[:, 1] <= 0.1 + 1e-6)).all()
    R = rows[:, 4:13].reshape(-1, 3, 3)
    np.testing.assert_allclose(R @ np.swapaxes(R, 1, 2), np.tile(np.eye(3), (1024, 1, 1)), atol=1e-4)
    np.testing.assert_allclose(R[:, :, 0], -predictions.view.numpy(), atol=1e-5)
    nothing = baseline.Predictions(**{**vars(predictions), "objectness": torch.tensor([1.0, 0.0]).expand(1024, 2)})
    assert baseline.decode(nothing).shape == (0, 17)


def test_decoding_takes_the_angle_of_its_class_and_the_best_depth():
    shape = (1, 4, 12)
    score, angle, width = torch.zeros(shape), torch.zeros(shape), torch.full(shape, 0.02)
    angle[0, :, 3] = 1.0  # 45 degrees
    score[0, 2, 3], score[0, 1, 5] = 0.5, 9.0  # the second is of an angle that is not taken
    width[0, 2, 3] = 0.05
    tolerance = torch.full(shape, 0.025)
    view = torch.tensor([[0.0, 0.0, -1.0]])  # seen from the camera: the approach is its z axis
    predictions = baseline.Predictions(
        torch.tensor([[0.1, 0.2, 0.6]]), torch.tensor([[0.0, 1.0]]), view, score, angle, width, tolerance
    )
    (row,) = baseline.decode(predictions)
    np.testing.assert_allclose(row[:4], [0.5 * 0.5, 0.06, 0.02, 0.03], atol=1e-6)
    R = row[4:13].reshape(3, 3)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(R, [[0, -half, -half], [0, half, -half], [1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(row[13:], [0.1, 0.2, 0.6, -1], atol=1e-6)


def test_views_and_rotations():
    views = baseline.grasp_views(300)
    np.testing.assert_allclose(views.norm(dim=1), 1, atol=1e-6)
    np.testing.assert_allclose(views[0], [np.sqrt(1 - (1 / 300 - 1) ** 2), 0, 1 / 300 - 1], atol=1e-6)
    assert (views @ views.T - 2 * torch.eye(300)).amax() > 0.98  # neighbours are near
    R = baseline.approach_matrix(views, torch.linspace(0, 3, 300))
    torch.testing.assert_close(R.mT @ R, torch.eye(3).expand(300, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(R[:, :, 0], views, atol=1e-5, rtol=0)
    level = baseline.approach_matrix(views, torch.zeros(300))
    assert (level[:, 2, 1] == 0).all()


def test_other_files_are_refused(tmp_path, baseline_file):
    with pytest.raises(AffordAgentError, match="holds no weights"):
        load_contact_graspnet(baseline_file)
    state = torch.load(baseline_file, weights_only=True)["model_state_dict"]
    torch.save({"state_dict": state}, tmp_path / "other.pth")
    with pytest.raises(AffordAgentError, match="of another network: of the 295 tensors of Contact.* it lacks 295"):
        load_contact_graspnet(tmp_path / "other.pth")
    torch.save({"model_state_dict": {**state, "more": torch.zeros(1)}}, tmp_path / "more.tar")
    with pytest.raises(AffordAgentError, match="has in excess 1, the first: more"):
        baseline.load_graspnet(tmp_path / "more.tar")
    with pytest.raises(AffordAgentError, match="cannot read the weights"):
        load_contact_graspnet(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(AffordAgentError, match="no checkpoint that can be read safely"):
        load_contact_graspnet(tmp_path / "text.pth")
    evil = tmp_path / "evil.tar"
    evil.write_bytes(pickle.dumps({"model_state_dict": Path("/tmp")}))
    with pytest.raises(AffordAgentError, match="no checkpoint that can be read safely"):
        baseline.load_graspnet(evil)
    torch.save({"state_dict": [1, 2]}, tmp_path / "list.pth")
    with pytest.raises(AffordAgentError, match="holds no weights"):
        load_contact_graspnet(tmp_path / "list.pth")


@pytest.mark.slow
@pytest.mark.skipif(not CGN_WEIGHTS, reason="AFFORDAGENT_CGN_WEIGHTS names no weights of cgn-pytorch 0.4.3")
def test_true_weights_grasp_the_block():
    network = load_contact_graspnet(Path(str(CGN_WEIGHTS)))
    xyz = table_with_a_block(20_000)
    grasps = network(xyz, farthest_points(xyz, 2048))
    on_block = grasps.contact[:, 2] > xyz[:, 2].min() + 0.004
    assert grasps.score[on_block].median() > 0.5
    assert grasps.score[~on_block].quantile(0.95) < 0.05  # a few contacts on the bare table are sure and wrong
    sure = on_block & (grasps.score > 0.9)
    assert (grasps.rotation[sure, 1, 0].abs() > 0.8).float().mean() > 0.8  # they close across it
