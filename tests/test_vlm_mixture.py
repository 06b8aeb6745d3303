"""What is drawn for training, how often, and in which order."""

import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.vlm.config import CONFIGS, GROUP_RATES, PUBLISHED, SET_RATES, config_named
from affordagent.finetune.vlm.mixture import Mixture, group_of
from affordagent.finetune.vlm.train import numbers_of

MASK = {"mask": "m.png"}


def published_rows() -> list[Sample]:
    """Every group and set; in each affordance set one class has nine rows and another one."""
    rows = []
    for source in SET_RATES["affordance"]:
        for n in range(10):
            rows.append(Sample(f"{source}{n}", "q", **MASK, category="rare" if n == 9 else "common", source=source))
    for name in SET_RATES["reasoning-affordance"]:
        source, kind = name.split()
        rows += [Sample(f"{name}{n}", "q", **MASK, category="mug", source=source, kind=kind) for n in range(3)]
    for kind, source in (("semantic", "ade20k"), ("referring", "refcoco"), ("reasoning", "reason_seg")):
        rows += [Sample(f"{source}{n % 2}", f"q{n}", **MASK, kind=kind, source=source) for n in range(8)]
    rows += [Sample(f"llava{n % 2}", f"q{n}", answer="a", kind="vqa", source="llava") for n in range(4)]
    return rows


def mixture_of(rows, groups=GROUP_RATES, sets=SET_RATES, seed=0) -> Mixture:
    return Mixture(rows, groups, sets, seed=seed)


@pytest.fixture(scope="module")
def draws():
    mixture = mixture_of(published_rows())
    return [mixture.draw(k) for k in range(12_000)]


def close(count: int, n: int, share: float) -> bool:
    """Within four standard deviations of a fair draw."""
    return abs(count - n * share) < 4 * np.sqrt(n * share * (1 - share))


def test_groups_and_sets_come_at_the_published_rates(draws):
    groups = Counter(draw.group for draw in draws)
    for name, rate in GROUP_RATES.items():
        assert close(groups[name], len(draws), rate / 18), name
    within = Counter(draw.source for draw in draws if draw.group == "affordance")
    for name, rate in SET_RATES["affordance"].items():
        assert close(within[name], groups["affordance"], rate / 11), name
    reasoning = Counter(draw.source for draw in draws if draw.group == "reasoning-affordance")
    assert all(
        close(reasoning[name], groups["reasoning-affordance"], 1 / 3) for name in SET_RATES["reasoning-affordance"]
    )


def test_a_rare_class_is_drawn_as_often_as_a_common_one(draws):
    classes = Counter(draw.rows[0].category for draw in draws if draw.group == "affordance")
    assert close(classes["rare"], sum(classes.values()), 0.5)
    pictures = Counter(d.rows[0].image for d in draws if d.source == "egoobjects" and d.rows[0].category == "common")
    assert len(pictures) == 9
    assert all(close(count, sum(pictures.values()), 1 / 9) for count in pictures.values())


def test_general_sets_ask_up_to_three_different_questions_about_one_picture(draws):
    for draw in draws:
        assert len({row.image for row in draw.rows}) == 1
        assert (
            len(set(draw.rows)) == len(draw.rows) == (3 if draw.group in ("semantic", "referring", "reasoning") else 1)
        )


@settings(max_examples=15, deadline=None)
@given(st.sets(st.sampled_from(sorted(GROUP_RATES)), min_size=1), st.integers(0, 100))
def test_what_is_absent_leaves_its_place_to_the_others(present, seed):
    rows = [row for row in published_rows() if group_of(row)[0] in present]
    mixture = mixture_of(rows, seed=seed)
    total = sum(GROUP_RATES[name] for name in present)
    assert sum(mixture.rates.values()) == pytest.approx(1)
    for name in present:
        share = sum(rate for (group, _), rate in mixture.rates.items() if group == name)
        assert share == pytest.approx(GROUP_RATES[name] / total)
    counts = Counter(mixture.draw(k).group for k in range(400))
    assert set(counts) <= present
    assert all(close(counts[name], 400, GROUP_RATES[name] / total) or len(present) == 1 for name in present)


def test_absences_are_told(caplog):
    with caplog.at_level(logging.WARNING):
        mixture_of([row for row in published_rows() if row.source not in ("rlbench", "llava")])
    assert "no rows of vqa, affordance/rlbench:" in caplog.text


def test_sets_that_no_table_names_have_the_rate_1():
    rows = [Sample("a", "q", **MASK, source="own"), Sample("b", "q", **MASK, source="handal")]
    assert mixture_of(rows).rates == {("affordance", "own"): 1 / 3, ("affordance", "handal"): 2 / 3}
    only = mixture_of(rows, sets={"affordance": {"own": 0}})
    assert only.rates == {("affordance", "handal"): 1.0}


def test_nothing_to_draw_is_an_error():
    with pytest.raises(
        AffordAgentError, match="nothing to train on: the rows are of affordance, rates above 0 have vqa"
    ):
        mixture_of([Sample("a", "q", **MASK)], groups={"vqa": 1, "affordance": 0})


def test_reasonsegs_answers_in_words_stay_with_its_masks():
    assert group_of(Sample("a", "q", answer="x", kind="vqa", source="reason_seg")) == ("reasoning", "reason_seg")
    assert group_of(Sample("a", "q", answer="x", kind="vqa", source="llava"))[0] == "vqa"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 5))
def test_number_k_depends_on_the_seed_and_k_alone(k, seed):
    rows = published_rows()
    one, two = mixture_of(rows, seed=seed), mixture_of(rows, seed=seed)
    [two.draw(other) for other in (3, k + 1)]
    first, second = one.draw(k), two.draw(k)
    assert (first.rows, first.flip) == (second.rows, second.flip)
    assert first.rng.random() == second.rng.random()


def test_another_seed_is_another_order():
    rows = published_rows()
    orders = [[mixture_of(rows, seed=seed).draw(k).rows for k in range(20)] for seed in (0, 1)]
    assert orders[0] != orders[1]


@settings(max_examples=40, deadline=None)
@given(
    processes=st.integers(1, 5), start=st.integers(0, 99), steps=st.integers(1, 4), micro=st.integers(1, 3),
    accumulate=st.integers(1, 3),
)  # fmt: skip
def test_processes_share_the_numbers_without_gap_or_double(processes, start, steps, micro, accumulate):
    config = replace(PUBLISHED, micro_batch=micro, accumulate=accumulate)
    own = [numbers_of(rank, processes, start, steps, config) for rank in range(processes)]
    a_step = processes * micro * accumulate
    for step in range(steps):  # also step by step: a step reads the next numbers of the run, whoever reads them
        size = micro * accumulate
        read = sorted(k for numbers in own for k in numbers[step * size : (step + 1) * size])
        assert read == list(range(start + step * a_step, start + (step + 1) * a_step))
    later = [numbers_of(rank, processes, start + a_step, steps - 1, config) for rank in range(processes)]
    assert later == [numbers[micro * accumulate :] for numbers in own]


def test_only_rlbenchs_symmetric_things_are_flipped():
    def flips(source, category):
        mixture = mixture_of([Sample("a", "q", **MASK, category=category, source=source)])
        return Counter(mixture.draw(k).flip for k in range(600))

    assert set(flips("handal", "jar")) == set(flips("rlbench", "cup")) == {None}
    drawer, jar = flips("rlbench", "drawer"), flips("rlbench", "red jar")
    assert set(drawer) == {None, 1}
    assert close(drawer[1], 600, 0.5)
    assert set(jar) == {None, -1, 0, 1}
    assert all(close(jar[code], 600, 1 / 6) for code in (-1, 0, 1))


def test_the_published_settings():
    config = config_named("published")
    assert config.micro_batch * config.accumulate == 40
    assert config.steps == 5000
    rates = [config.learning_rate_at(step) for step in (0, 49, 99, 100, 2550, 4999, 5000)]
    assert rates == pytest.approx([3e-6, 1.5e-4, 3e-4, 3e-4, 1.5e-4, 3e-4 / 4900, 0])
    assert {name: c.name for name, c in CONFIGS.items()} == {name: name for name in CONFIGS}
    with pytest.raises(AffordAgentError, match="config 'big' is not known; one of published, paper, debug"):
        config_named("big")
