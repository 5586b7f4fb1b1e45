"""Compressing a cache of keys and values by discrepancy: half of the tokens stand for all of them, again and again.

    Attn(q, K, V) = sum_i e^<q, k_i> v_i / sum_i e^<q, k_i>

Both sums are linear in features of (k_i, v_i), so dropping one token of each pair changes them by sum_p s_p (phi_2p - phi_2p+1), s_p = +-1.
The signs are chosen one after another against what has added up so far (the self-balancing walk of Alweiss et al., arXiv 2006.14009, without its
randomness); only inner products of features are needed,

    <phi_i, phi_j> = e^(rho <k_i, k_j>) (1 + <v_i, v_j>),      ||q|| <= rho, keys of norm 1,

as in BalanceKV (Han et al., arXiv 2502.07861). "Nearly Optimal Attention Coresets" (arXiv 2605.05602) proves that sets of size
O(sqrt(d) e^(rho + o(rho)) / eps) exist, and that Omega(sqrt(d) e^rho / eps) are needed; for halving, the error falls as 1 / size where drawing
tokens gives 1 / sqrt(size). K: (tokens, d), V: (tokens, d_v), one head; queries come already divided by sqrt(d).
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError


def coreset(keys: np.ndarray, values: np.ndarray, size: int, reach: float = 1.0, seed: int = 0) -> np.ndarray:
    """Indices (size,), ascending, of the tokens to keep; reach: the largest norm of a query (rho) where keys have norm 1.

    Other keys are scaled by their largest norm, which `reach` takes over; values likewise. Best is tokens / 2^n: otherwise the last round joins only
    as many pairs as it must, and what it joined counts no more than what it left. Raises InputError for a size outside [1, tokens].
    """
    tokens = len(keys)
    if not 1 <= size <= tokens:
        raise InputError(f"a cache of {tokens} tokens cannot be compressed to {size}.")
    norm = float(np.linalg.norm(keys, axis=1).max(initial=1e-12))
    kernel = np.exp(reach * norm * (keys.astype(np.float64) @ keys.T) / norm**2)
    scaled = values.astype(np.float64) / max(float(np.linalg.norm(values, axis=1).max(initial=0.0)), 1e-12)
    kernel *= 1 + scaled @ scaled.T
    kept = np.random.default_rng(seed).permutation(tokens)
    while len(kept) > size:
        pairs = min(len(kept) // 2, len(kept) - size)
        kept = np.concatenate([kept[2 * pairs :], kept[: 2 * pairs].reshape(-1, 2)[np.arange(pairs), _halve(kernel, kept[: 2 * pairs])]])
    return np.sort(kept)


def _halve(kernel: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Which of each consecutive pair stays, 0 or 1: the one that brings the sum of signed differences back towards nothing."""
    first, second = kept[::2], kept[1::2]
    between = kernel[np.ix_(first, first)] - kernel[np.ix_(first, second)] - kernel[np.ix_(second, first)] + kernel[np.ix_(second, second)]
    sums, signs = np.zeros(len(first)), np.empty(len(first))
    for pair in range(len(first)):
        signs[pair] = -1.0 if sums[pair] > 0 else 1.0
        sums += signs[pair] * between[pair]
    return (signs < 0).astype(np.int64)


def attention(queries: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """softmax(q K^T) V: (queries, d), (tokens, d), (tokens, d_v) → (queries, d_v), float64."""
    scores = queries.astype(np.float64) @ keys.T
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return (weights / weights.sum(1, keepdims=True)) @ values
