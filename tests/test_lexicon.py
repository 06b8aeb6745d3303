"""The lexicon: own names, uses without names, sizes of things that fit on a table."""

import re
from collections import Counter

import pytest

from affordagent.core.catalogue import catalogue
from affordagent.core.lexicon import lexicon

THINGS = list(lexicon().values())


def test_many_things_with_their_own_name_among_the_names():
    assert len(THINGS) >= 160
    assert [thing.name for thing in THINGS if thing.name not in thing.names] == []
    assert all(name == name.lower().strip() for thing in THINGS for name in thing.names)


def test_no_name_means_two_things():
    taken = {name for category in catalogue().values() for name in (category.name, *category.names)}
    assert [name for thing in THINGS for name in thing.names if name in taken] == []
    counts = Counter(name for thing in THINGS for name in thing.names)
    assert [name for name, n in counts.items() if n > 1] == []


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: thing.name)
def test_uses_are_sentences_that_never_name_the_thing(thing):
    assert len(set(thing.uses)) == 3
    for use in thing.uses:
        assert use[0].isupper()
        assert use.endswith(".")
        assert not [name for name in thing.names if re.search(rf"\b{re.escape(name)}(s|es)?\b", use.lower())]


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: thing.name)
def test_sizes_are_ranges_of_things_on_a_table(thing):
    for length, width, height in thing.sizes_m:
        assert all(0 < low < high <= 1.0 for low, high in (length, width, height))
        assert length[0] >= width[0]
        assert length[1] >= width[1]
        assert all(high / low <= 12 for low, high in (length, width))


def test_sizes_are_true_to_life():
    sizes = {name: thing.sizes_m[0] for name, thing in lexicon().items()}
    assert sizes["coin"][0][1] < 0.05 < sizes["plate"][0][0]
    assert sizes["wine glass"][2][0] > sizes["shot glass"][2][1]
    assert sizes["bucket"][2][1] > sizes["egg cup"][2][1]


def test_parts_are_known_words():
    assert {thing.part for thing in THINGS} == {None, "handle", "stem", "hook"}
    assert lexicon()["trowel"].part == "handle"
    assert lexicon()["apple"].part is None
