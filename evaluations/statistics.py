"""Rates with intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a rate (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    z = float(norm.ppf(0.5 + confidence / 2))
    p = successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * np.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def bootstrap_mean(values: ArrayLike, seed: int = 0, resamples: int = 2000) -> tuple[float, float, float]:
    """Mean and its 95 % percentile interval (NaN without values)."""
    array = np.asarray(values, float)
    if len(array) == 0:
        return float("nan"), float("nan"), float("nan")
    low, high = np.percentile(_resampled_sums(array[:, None], seed, resamples)[:, 0] / len(array), [2.5, 97.5])
    return float(array.mean()), float(low), float(high)


def bootstrap_ratio(pairs: ArrayLike, seed: int = 0, resamples: int = 2000) -> tuple[float, float, float]:
    """Ratio of the sums of (N, 2) numerators and denominators >= 0, and its 95 % percentile interval over the pairs;
    0 where the denominators sum to 0 (NaN without pairs)."""
    array = np.asarray(pairs, float)
    if len(array) == 0:
        return float("nan"), float("nan"), float("nan")
    sums = np.vstack([array.sum(0), _resampled_sums(array, seed, resamples)])
    ratios = np.divide(sums[:, 0], sums[:, 1], out=np.zeros(len(sums)), where=sums[:, 1] > 0)
    low, high = np.percentile(ratios[1:], [2.5, 97.5])
    return float(ratios[0]), float(low), float(high)


def bootstrap_sums(
    values: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    seed: int = 0,
    resamples: int = 2000,
) -> NDArray[np.float64]:
    """(M, 3): M figures made of column sums, and their 95 % percentile intervals over the rows of `values` (N, K).

    statistic: (R, K) sums -> (R, M) figures; NaN where a resample has none: those are left out of the interval. All
    NaN without rows.
    """
    array = np.asarray(values, float)
    if len(array) == 0:
        return np.full((statistic(np.zeros((1, array.shape[1]))).shape[1], 3), np.nan)
    found = statistic(np.vstack([array.sum(0), _resampled_sums(array, seed, resamples)]))
    bounds = [
        np.percentile(c[~np.isnan(c)], [2.5, 97.5]) if (~np.isnan(c)).any() else [np.nan] * 2 for c in found[1:].T
    ]
    return np.column_stack([found[0], np.asarray(bounds)])


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """(M,) p values adjusted for the M tests made together (Holm 1979)."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def _resampled_sums(array: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    """(resamples, K) sums over N rows drawn with replacement from (N, K); one draw at a time, as N may be large."""
    rng = np.random.default_rng(seed)
    count = len(array)
    draws = (rng.integers(count, size=count) for _ in range(resamples))
    return np.array([np.bincount(draw, minlength=count) @ array for draw in draws])


def rate(successes: int, trials: int) -> dict[str, float | int | list[float]]:
    """{"k", "n", "rate", "wilson95"} for reports."""
    low, high = wilson(successes, trials)
    return {
        "k": successes,
        "n": trials,
        "rate": round(successes / trials, 4) if trials else float("nan"),
        "wilson95": [round(low, 4), round(high, 4)],
    }


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p value of paired successes and failures (McNemar 1947): how often only the first, and only the
    second, of two ways succeeded. 1 when they never differed."""
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
