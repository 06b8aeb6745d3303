"""A linear reading of sentence embeddings: multinomial logistic regression whose labels also have names.

The weights of a label are its own plus a map of its name's embedding that all labels share (as in Romera-Paredes and
Torr, "An embarrassingly simple approach to zero-shot learning", ICML 2015): a thing with three sentences gains from
what the map learned on things with a hundred.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Chosen on a held-out fifth of the sentences: the shared map lowers their log loss for categories from 1.71 to 1.58 and
# for things of the lexicon from 5.37 to 4.42.
OWN_PENALTY = 3e-5
SHARED_PENALTY = 1e-5
BIAS_PENALTY = 1e-3
ITERATIONS = 100
REST_WEIGHT = 2.0  # of the few sentences of the last label


@dataclass(frozen=True)
class Reading:
    """weights: (D, L); bias: (L,)."""

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, D) -> (N, L)."""
        return embeddings @ self.weights + self.bias


def fit_reading(embeddings: NDArray[np.float32], shares: NDArray[np.float32], names: NDArray[np.float32]) -> Reading:
    """Fit by L-BFGS from zero, so that the same sentences give the same weights.

    Args:
        embeddings: (N, D) sentences.
        shares: (N, L) what each sentence means; rows add up to 1. The last label is "none of the others".
        names: (L, D) embeddings of the labels' names.
    """
    import torch

    x, wanted = torch.from_numpy(embeddings), torch.from_numpy(shares)
    called = torch.from_numpy(names - names.mean(0))
    importance = 1 + (REST_WEIGHT - 1) * wanted[:, -1]
    importance = importance / importance.sum()
    own = torch.zeros(x.shape[1], wanted.shape[1], requires_grad=True)
    shared = torch.zeros(x.shape[1], x.shape[1], requires_grad=True)
    bias = torch.zeros(wanted.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [own, shared, bias], max_iter=ITERATIONS, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits = x @ (own + shared @ called.T) + bias
        loss = -(importance[:, None] * wanted * torch.log_softmax(logits, 1)).sum()
        loss = loss + OWN_PENALTY * own.square().sum() + SHARED_PENALTY * shared.square().sum()
        loss = loss + BIAS_PENALTY * bias.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    weights = (own + shared @ called.T).detach().numpy()
    return Reading(weights.astype(np.float32), bias.detach().numpy())
