"""How far people agree beyond chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def krippendorff_alpha(units: Sequence[Sequence[str]]) -> float:
    """Alpha for nominal values and any number of labels a unit (Krippendorff, Content Analysis, 2004, ch. 11): 1 = all
    agree, 0 = as by chance. Units with one label do not count. NaN where only one value occurs."""
    units = [unit for unit in units if len(unit) > 1]
    totals: Counter[str] = Counter(value for unit in units for value in unit)
    n = totals.total()
    expected = n * n - sum(count * count for count in totals.values())
    if not expected:
        return float("nan")
    observed = 0.0
    for unit in units:
        m = len(unit)
        observed += (m * m - sum(count * count for count in Counter(unit).values())) / (m - 1)
    return 1.0 - (n - 1) * observed / expected


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float:
    """Agreement of two labellers beyond chance (Cohen 1960); NaN where only one value occurs."""
    n = len(pairs)
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(first[value] * second[value] for value in first) / (n * n) if n else 1.0
    if chance == 1.0:
        return float("nan")
    return (sum(a == b for a, b in pairs) / n - chance) / (1 - chance)
