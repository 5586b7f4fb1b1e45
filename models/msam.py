"""MSAM: multi-scale spectral attention in the skip connections of a U-Net, for hyperspectral cameras on vehicles.

    gate = sigmoid(sum_k a_k conv_k(GAP(x))),   a = softmax(w),   y = x * gate

x: (batch, channels, height, width); GAP: its mean over the image, (batch, channels); conv_k: a one-dimensional convolution along the channels,
kernels k = 1, 5, 11 side by side, padded to equal length; w: three learned numbers. Shah et al., "Multi-scale Spectral Attention Module-based
Hyperspectral Segmentation in Autonomous Driving Scenarios" (arXiv 2506.18682 v1): three kernels, adaptive aggregation, U-Net skips; the gate's
form follows Wang et al., "ECA-Net" (arXiv 1910.03151), equation 5. Task: six materials of generated road scenes, from sixteen bands a pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from ..runtime.manifest import TensorSpec
from .data.road_scenes import BANDS, CLASSES, SIDE, scenes
from .metrics import MEAN_IOU
from .operations import operations
from .reference import Reference, Samples
from .registry import find, weights_file
from .training import Progress, cross_entropy, fit, metric_of, outputs, tensors

KERNELS = (1, 5, 11)


class SpectralAttention(nn.Module):
    """Gates channels by their image means seen through kernels of several widths; x: (batch, channels, height, width), likewise out."""

    def __init__(self, kernels: tuple[int, ...] = KERNELS) -> None:
        super().__init__()
        self.scales = nn.ModuleList([nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False) for kernel in kernels])
        self.share = nn.Parameter(torch.zeros(len(kernels)))

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels), in (0, 1)."""
        means = x.mean((2, 3))[:, None]
        share = functional.softmax(self.share, 0)
        seen = torch.stack([scale(means)[:, 0] for scale in self.scales], -1)
        return torch.sigmoid((seen * share).sum(-1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)[:, :, None, None]


class Twice(nn.Sequential):
    """Two 3 x 3 convolutions with ReLU: (batch, inputs, height, width) → (batch, outputs, height, width)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU())


class UNet(nn.Module):
    """A U-Net of as many levels as `widths`; x: (batch, bands, height, width) → scores (batch, height, width, classes).

    attention="none" gives the twin, the paper's UNet-SC: skip connections as they are.
    """

    def __init__(
        self, bands: int = BANDS, widths: tuple[int, ...] = (16, 24, 32), classes: int = CLASSES, attention: str = "msam",
    ) -> None:  # fmt: skip
        super().__init__()
        self.down = nn.ModuleList([Twice(inputs, outputs) for inputs, outputs in zip((bands, *widths), widths, strict=False)])
        self.skips = nn.ModuleList([nn.Identity() if attention == "none" else SpectralAttention() for _ in widths[:-1]])
        self.up = nn.ModuleList([Twice(low + high, low) for low, high in pairwise(widths)])
        self.classify = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if level else x)
            kept.append(x)
        for level in reversed(range(len(self.up))):
            above = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.up[level](torch.cat([self.skips[level](kept[level]), above], 1))
        return self.classify(x).permute(0, 2, 3, 1)


def paper() -> UNet:
    """A five-level U-Net on Hyperspectral City's 128 bands; the widths are those of the first U-Net (arXiv 1505.04597), the abstract gives none."""
    return UNet(bands=128, widths=(64, 128, 256, 512, 1024), classes=19)


def twin() -> UNet:
    """UNet-SC, the rival of the paper: no attention in the skip connections."""
    return UNet(attention="none")


def calibration() -> Samples:
    """256 scenes."""
    return scenes(256, seed=21)


def evaluation() -> Samples:
    """1,000 scenes never seen in training."""
    return scenes(1000, seed=22)


def measure() -> Mapping[str, float]:
    """Mean IoU beside UNet-SC's, what the attention adds to the network, and how far the gates follow the light of a scene."""
    reference, held_out = find("msam"), evaluation()
    networks = {"msam": reference.module(), "unet": reference.trained_twin()}
    x = tensors(held_out.take(slice(0, 200)).inputs)["x"]
    sizes = {name: sum(parameter.numel() for parameter in network.parameters()) for name, network in networks.items()}
    costs = {name: operations(network, x[:1]) for name, network in networks.items()}
    network = networks["msam"]
    assert isinstance(network, UNet) and isinstance(network.skips[0], SpectralAttention)
    with torch.no_grad():
        gates = network.skips[0].gate(network.down[0](x))
    return {
        "mean IoU": MEAN_IOU.compute([outputs(networks["msam"], held_out)], held_out.truth),
        "mean IoU of UNet-SC": MEAN_IOU.compute([outputs(networks["unet"], held_out)], held_out.truth),
        "parameters added, %": 100 * (sizes["msam"] / sizes["unet"] - 1),
        "multiplications of convolutions added, %": 100 * (costs["msam"] / costs["unet"] - 1),
        "spread of the gates over scenes": float(gates.std(0).mean()),
    }


def train(seed: int = 0, epochs: int = 16, progress: Progress | None = None, network: UNet | None = None) -> tuple[nn.Module, float]:
    """Trains on 800 scenes; returns the network and its mean IoU on the evaluation scenes."""
    torch.manual_seed(seed)
    module = network if network is not None else UNet()
    fit(module, scenes(800, 100 + seed), scenes(100, 20), cross_entropy, epochs, seed=seed, rate=4e-3, batch=32, progress=progress)
    return module, metric_of(REFERENCE, module)


REFERENCE = Reference(
    name="msam",
    build=UNet,
    inputs=(
        TensorSpec(
            name="x",
            shape=("batch", BANDS, SIDE, SIDE),
            dtype="float32",
            unit="reflectance, 0 to about 1, without correction for the light",
            preprocessing="a 4 x 4 mosaic camera's bands as planes, (counts - dark) / (white - dark)",
        ),
    ),
    outputs=("scores",),
    source="arXiv 2506.18682 v1 (abstract); gate of arXiv 1910.03151",
    data="generated road scenes of sixteen bands, six materials with known spectra",
    claim="+3.61 % mean IoU over UNet-SC for 0.02 % more parameters",
    calibration=calibration,
    evaluation=evaluation,
    metric=MEAN_IOU,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("msam"),
    measure=measure,
    reached=53.593,
    twin_weights=weights_file("msam_twin"),
)
