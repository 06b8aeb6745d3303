"""Functional phrases never name what they mean, and the reporting split is whole."""

import re
from typing import get_args

import numpy as np
import pytest

from affordagent.core.catalogue import catalogue
from affordagent.finetune.phrases import Split, phrases, sample_text
from affordagent.robot.sim.objects.library import HELD_OUT

SPLITS: tuple[Split, ...] = get_args(Split)
OTHER_NAMES = {  # of categories that are not in the catalogue
    "ice cream scoop": ("scooper",),
    "paint brush": ("paintbrush",),
    "kettle": ("teakettle",),
    "hand saw": ("handsaw",),
    "tongs": ("tong",),
    "hairbrush": ("hair brush",),
    "peeler": ("parer",),
    "flashlight": ("torch",),
}


def plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def names_it(category: str) -> re.Pattern[str]:
    """Any name of the category, in the plural as well, and each word of its own name."""
    known = catalogue().get(category)
    words = {category, *category.split(), *OTHER_NAMES.get(category, ())} - {"or"}
    words |= {*known.names, *known.generic} if known else set()
    words |= {w.removesuffix("s") for w in words}
    return re.compile(r"\b(?:" + "|".join(map(re.escape, words)) + r")(?:s|es|'s)?\b")


@pytest.mark.parametrize("split", SPLITS)
def test_no_phrase_names_its_category(split: Split) -> None:
    named = {
        category: found
        for category, texts in phrases()[split].items()
        if (found := [t for t in texts if names_it(category).search(t.lower())])
    }
    assert not named


def test_a_name_is_found_in_the_plural_and_by_a_word_of_it() -> None:
    assert names_it("knife").search("two knifes")
    assert names_it("scissors").search("a scissor lift")
    assert names_it("watering can").search("the can, please")
    assert not names_it("pot or pan").search("one or two")


def test_the_reporting_split_is_whole() -> None:
    assert set(phrases()["test"]) == set(catalogue()) | set(HELD_OUT)
    assert all(len(texts) >= 16 for texts in phrases()["test"].values())
    assert not HELD_OUT.keys() & phrases()["train"].keys()


def test_the_test_split_repeats_nobody() -> None:
    own = [plain(t) for texts in phrases()["test"].values() for t in texts]
    assert len(set(own)) == len(own)
    others = [phrases()["train"], phrases()["dev"]]
    assert not set(own) & {plain(t) for split in others for texts in split.values() for t in texts}


def test_the_development_split_has_the_frames_of_training() -> None:
    for seed in range(20):
        drawn = {
            split: sample_text(np.random.default_rng(seed), "ladle", "red", "handle", False, split, "template")
            for split in SPLITS
        }
        assert drawn["dev"] == drawn["train"] != drawn["test"]
