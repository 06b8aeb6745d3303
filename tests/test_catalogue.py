"""The catalogue and the phrases: complete, unambiguous, and apart."""

import re
from collections import Counter

import numpy as np
import pytest

from affordagent.core.catalogue import catalogue
from affordagent.finetune.phrases import phrases, sample_text

HANDAL = (
    "strainer, fixed joint pliers, slip joint pliers, locking pliers, hammer, ladle, whisk, measuring cup, power drill,"
    " adjustable wrench, combination wrench, mug, ratchet, utensil, pot or pan, spatula, screwdriver"
).split(", ")


def plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def test_handal_comes_first_under_its_exact_names():
    assert list(catalogue())[:17] == HANDAL
    assert all(catalogue()[name].part == "handle" for name in HANDAL)


def test_a_plain_name_means_one_category():
    owners: dict[str, str] = {}
    for category in catalogue().values():
        for name in category.names:
            assert owners.setdefault(name, category.name) == category.name
            assert name == name.lower()
    assert not {w for c in catalogue().values() for w in c.generic} & set(owners)


def test_generic_words_are_shared_with_sane_weights():
    pliers = {c.name for c in catalogue().values() if "pliers" in c.generic}
    assert pliers == {"fixed joint pliers", "slip joint pliers", "locking pliers"}
    assert all(0 < weight <= 1 for c in catalogue().values() for weight in c.generic.values())


@pytest.mark.parametrize(("split", "least"), [("train", 30), ("test", 8)])
def test_every_category_has_enough_phrases(split, least):
    texts = phrases()[split]
    assert all(len(texts[name]) >= least for name in catalogue())


def test_train_and_test_share_no_sentence_and_nothing_is_said_twice():
    train, test = ([[plain(t) for t in group] for group in phrases()[split].values()] for split in ("train", "test"))
    assert not {t for group in train for t in group} & {t for group in test for t in group}
    assert [t for group in train for t in group if group.count(t) > 1] == []
    assert len({t for group in test for t in group}) == sum(map(len, test))
    assert not set(phrases()["templates_train"]) & set(phrases()["templates_test"])


def test_a_sentence_with_several_meanings_is_spelled_one_way():
    spellings = {t for group in phrases()["train"].values() for t in group}
    assert len(spellings) == len({plain(t) for t in spellings})
    meanings = Counter(t for group in phrases()["train"].values() for t in group)
    assert meanings["the nut has to be tightened"] == 3  # any wrench does


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("style", ["template", "easy", "hard"])
def test_sampled_texts_say_what_they_should(split, style):
    rng = np.random.default_rng(0)
    for category in catalogue().values():
        names = category.names
        for ambiguous in (False, True):
            text = sample_text(rng, category.name, "turquoise", category.part, ambiguous, split, style)
            assert "{" not in text
            assert ("turquoise" in text) or not ambiguous
            assert style == "hard" or any(name in text for name in names)


def test_sampling_is_repeatable_and_knows_untrained_categories():
    draw = lambda seed: sample_text(np.random.default_rng(seed), "trowel", "red", "handle", False, "test", "easy")  # noqa: E731
    assert draw(3) == draw(3)
    assert "trowel" in draw(3)
    with pytest.raises(KeyError):
        sample_text(np.random.default_rng(0), "trowel", "red", "handle", False, "train", "hard")
