"""Wrote the files beside it: one small network as a framework exports it, and the spike counts that the framework itself gives on the events.

usage: python write.py snntorch|norse      made with snnTorch 1.0.0 and Norse 1.1.0, nir 1.0.8, nirtorch 2.6
"""

import sys
from pathlib import Path

import nir
import numpy as np
import torch
from torch import nn

FOLDER = Path(__file__).parent
RANDOM = np.random.default_rng(7)
FIRST, SECOND = RANDOM.normal(0.25, 0.5, (6, 8)).astype(np.float32), RANDOM.normal(0.3, 0.6, (3, 6)).astype(np.float32)
EVENTS = (RANDOM.random((20, 30, 8)) < 0.3).astype(np.uint8)


def linear(weights):
    layer = nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    layer.weight.data.copy_(torch.from_numpy(weights))
    return layer


def snntorch():
    import snntorch as snn
    from snntorch.export_nir import export_to_nir

    neurons = [snn.Leaky(beta=beta * torch.ones(size), threshold=torch.ones(size), init_hidden=True) for beta, size in ((0.9, 6), (0.8, 3))]
    network = nn.Sequential(linear(FIRST), neurons[0], linear(SECOND), neurons[1])
    graph = export_to_nir(network, torch.zeros(8))
    snn.utils.reset(network)
    return graph, sum(network(torch.from_numpy(EVENTS[:, step]).float()) for step in range(30))


def norse():
    import norse.torch as norse

    def neurons(tau, size):
        full = {"tau_mem_inv": 1 / tau, "v_leak": 0.0, "v_th": 0.4, "v_reset": 0.0}
        return norse.LIFBoxCell(norse.LIFBoxParameters(**{key: torch.full((size,), value) for key, value in full.items()}), dt=1e-3)

    network = norse.SequentialState(linear(4 * FIRST), neurons(0.01, 6), linear(4 * SECOND), neurons(0.005, 3))
    graph, state, total = norse.to_nir(network, torch.zeros(8)), None, 0
    for step in range(30):
        spikes, state = network(torch.from_numpy(EVENTS[:, step]).float(), state)
        total = total + spikes
    return graph, total


if __name__ == "__main__":
    name = sys.argv[1]
    graph, counts = {"snntorch": snntorch, "norse": norse}[name]()
    nir.write(FOLDER / f"{name}.nir", graph)
    np.savez_compressed(FOLDER / f"{name}.npz", events=EVENTS, counts=counts.detach().numpy().astype(np.float32))
