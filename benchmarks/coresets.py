"""Attention's error by the size of a compressed cache, beside the paper's bound: python benchmarks/coresets.py, into docs/coresets.md and .svg."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from tables import DOCS, machine, table, write_section

from edgeattn.models.coresets import errors, evaluation, whole_bank
from edgeattn.models.data.areas import fields
from edgeattn.models.registry import find
from edgeattn.models.route_learning import cached

TOKENS, DIM = 1024, 8
SIZES = (16, 32, 64, 128, 256, 512)


def random_cache(reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys, values and queries in random directions."""
    directions = np.random.default_rng(0).standard_normal((3, TOKENS, DIM))
    keys, values, queries = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    return keys, values, reach * queries


def field_cache() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One head of the field memory, with the queries of its evaluation; values at most 1 long."""
    memory = find("coresets").module()
    keys, values = (bank[0] for bank in whole_bank(memory))
    with torch.no_grad():
        queries = memory.reach * memory.directions(torch.from_numpy(evaluation().inputs["place"][:1000]))[0, 0].numpy()
    return keys, values / np.linalg.norm(values, axis=1).max(), queries


def route_cache() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One head of the route decoder's cache for 1,024 stops; keys as queries, at the decoder's own scale. Keys and values at most 1 long."""
    _, keys, values, _ = cached(find("routeformer").module(), fields(1, TOKENS, 7, extent=0.0))
    size = keys.shape[-1] // find("routeformer_step").module().heads
    keys, values = (array[0, :, :size].astype(np.float64) for array in (keys, values))
    norm = np.linalg.norm(keys, axis=1).max()
    return keys / norm, values / np.linalg.norm(values, axis=1).max(), keys * norm / np.sqrt(size)


def main() -> None:
    """The table and the plot."""
    caches = {f"random directions, reach {reach:.0f}": random_cache(reach) for reach in (1.0, 2.0, 4.0)}
    caches |= {"field memory (trained)": field_cache(), "route decoder (trained)": route_cache()}
    mpl.rcParams.update({"svg.hashsalt": "edgeattn", "svg.fonttype": "none", "font.size": 8})
    figure, axes = plt.subplots(1, len(caches), figsize=(13, 3.2), sharey=True, layout="constrained")
    rows = []
    for axis, (name, (keys, values, queries)) in zip(axes, caches.items(), strict=True):
        reach = float(np.linalg.norm(queries, axis=1).max())
        found = errors(keys, values, queries, reach, SIZES)
        bound = np.sqrt(keys.shape[1]) * np.exp(reach) / np.array(SIZES)
        axis.loglog(SIZES, found[:, 0], "o-", label="coreset")
        axis.loglog(SIZES, found[:, 1], "s-", label="drawn uniformly")
        axis.loglog(SIZES, bound, "k--", label=r"$\sqrt{d}\,e^{\rho}/s$")
        axis.set(title=f"{name}\n" + rf"$\rho$ = {reach:.1f}, d = {keys.shape[1]}", xlabel="tokens kept, s", ylim=(1e-3, 30))
        slopes = np.polyfit(np.log(SIZES), np.log(found), 1)[0]
        kept = (f"{found[SIZES.index(size), column]:.3f}" for size in (64, 256) for column in (0, 1))
        rows.append([name, f"{reach:.1f}", *kept, *(f"{slope:.2f}" for slope in slopes)])
    axes[0].set_ylabel("largest error of attention")
    axes[0].legend()
    figure.savefig(DOCS / "coresets.svg", metadata={"Date": None})
    header = ["cache of 1,024 tokens", "reach", "64: coreset", "drawn", "256: coreset", "drawn", "slope: coreset", "drawn"]
    write_section("coresets.md", "errors", f"{table(header, rows)}\n\n{machine()}")


if __name__ == "__main__":
    main()
