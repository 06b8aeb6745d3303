"""gIoU and cIoU against LISA's validation, read off its code step by step."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from affordagent.core.overlap import overlap
from affordagent.evaluations.segmentation_metric import figures
from affordagent.evaluations.statistics import bootstrap_ratio
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.table import load_ignored, load_mask

LABELS = arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 255]))
PREDICTED = arrays(np.bool_, (6, 7))


def lisa_counts(output, target, classes=2, ignore=255):
    """Areas of intersection and union by class, as histograms of the flattened pictures give them."""
    output, target = output.flatten(), target.flatten()
    output[target == ignore] = ignore
    same = output[output == target]
    both, mine, theirs = (torch.histc(x, bins=classes, min=0, max=classes - 1) for x in (same, output, target))
    return both, mine + theirs - both


def lisa_validate(pairs, processes=False):
    """gIoU and cIoU of (prediction, label) pairs, one mask a picture; `processes`: as its meters put them together."""
    sum_both, sum_union, sum_iou, count = torch.zeros(2), torch.zeros(2), torch.zeros(2), 0
    for output, target in pairs:
        both, union = lisa_counts(output.double(), target.double())
        iou = both / (union + 1e-5)
        iou[union == 0] += 1.0
        sum_both, sum_union, sum_iou, count = sum_both + both, sum_union + union, sum_iou + iou, count + 1
    giou = sum_iou / (count + (1e-5 if processes else 0.0))
    return float(giou[1]), float((sum_both / (sum_union + 1e-10))[1])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(PREDICTED, LABELS), min_size=1, max_size=5))
def test_same_as_lisa(pairs):
    overlaps = [overlap(p, labels == 1, labels == 255) for p, labels in pairs]
    result = figures(overlaps)
    tensors = [(torch.from_numpy(p.astype(np.uint8)), torch.from_numpy(labels)) for p, labels in pairs]
    giou, ciou = lisa_validate(tensors)
    assert result["giou"] == pytest.approx(giou, abs=1e-7)
    assert result["ciou"] == pytest.approx(ciou, abs=1e-7)
    assert result["giou"] == pytest.approx(lisa_validate(tensors, processes=True)[0], abs=1.1e-5)
    assert result["n"] == len(pairs)
    for name in ("giou", "ciou"):
        low, high = result[f"{name}_interval"]
        assert -1e-9 <= low <= high <= 1 + 1e-9


def test_nothing_wanted_and_nothing_found_is_right():
    nothing, something = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    assert overlap(nothing, nothing).iou == 1.0
    assert overlap(something, nothing).iou == 0.0
    assert overlap(something, something).iou == pytest.approx(16 / (16 + 1e-5), abs=0)
    assert figures([overlap(nothing, nothing)])["ciou"] == 0.0  # as LISA: 0 / 1e-10


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="picture's size"):
        overlap(np.zeros((4, 4), bool), np.zeros((4, 5), bool))


def test_interval_of_a_ratio_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(60):
        union = rng.integers(50, 150, 80)
        ratio, low, high = bootstrap_ratio(np.stack([rng.binomial(union, 0.7), union], 1), seed=trial, resamples=300)
        assert low <= ratio <= high
        covered += low <= 0.7 <= high
    assert covered >= 50


def test_255_is_ignored_only_beside_other_labels_of_semantic_rows(tmp_path):
    labels = np.array([[0, 7, 255], [0, 7, 255]], np.uint8)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    Image.fromarray(np.where(labels == 7, 255, 0).astype(np.uint8)).save(tmp_path / "plain.png")
    for kind, name, foreground, ignored in (
        ("semantic", "labels.png", 2, 2),
        ("semantic", "plain.png", 2, 0),
        ("template", "labels.png", 4, 0),
        ("template", "plain.png", 2, 0),
    ):
        sample = Sample("image.png", "the thing", mask=str(tmp_path / name), kind=kind)
        assert load_mask(sample, labels.shape).sum() == foreground
        assert load_ignored(sample, labels.shape).sum() == ignored
