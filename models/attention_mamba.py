"""Attention-Mamba: four scales of a segmentation network weighed by gates that a Mamba scan mixes across scales.

    c   = mean_hw F_s + max_hw F_s                     (channels,)   what each scale s says of each channel
    g   = sigmoid(W_2 ReLU(W_1 scan(c_1 ... c_4)))     (4, classes)  a gate for every scale and class
    p   = sigmoid(w scan([mean_c F_s, max_c F_s]))     (4, H, W)     a gate for every scale and place
    out = sum_s g_s * p_s * (head_s F_s)               (classes, H, W)

F_s: (channels, H, W), the features of scale s brought to the finest one's size; the channel descriptors of all scales form one sequence of
4 * channels steps, the spatial ones of 4 H W steps, scale after scale at each channel or place; scan: a Mamba block from either end (width 1 and 2).
Each scale has a Mamba branch of its own over its H_s W_s places before that.

"Attention-Mamba" (arXiv 2402.02286), equations as in the authors' public code (repository Yanhua-Zhang/Attention-Mamba), where both orders of the
sequence exist; the backbone here is a few convolutions and scales are aligned by bilinear interpolation instead of learned offsets.
Task: organs and lesions in 32 x 32 slices, where a lesion is told from a vessel by what lies around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.manifest import TensorSpec
from .data import lesions
from .mamba import TwoWayMamba
from .reference import Metric, Reference, Samples
from .registry import weights_file
from .training import Progress, fit, metric_of, outputs

SIDE, SCALES, CLASSES = 32, 4, len(lesions.CLASSES)


class MambaGates(nn.Module):
    """Gates of each scale from all scales; scales: 4 of (batch, channels, H, W) → (batch, 4, classes), (batch, 4, H, W)."""

    def __init__(self, channels: int, classes: int, state: int, hidden: int) -> None:
        super().__init__()
        self.classes = classes
        self.channel_scan, self.place_scan = TwoWayMamba(1, state), TwoWayMamba(2, state)
        self.squeeze, self.excite = nn.Linear(SCALES * channels, hidden), nn.Linear(hidden, SCALES * classes)
        self.place = nn.Linear(2, 1)

    def forward(self, scales: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.of_classes(scales), self.of_places(scales)

    def of_classes(self, scales: Sequence[torch.Tensor]) -> torch.Tensor:
        described = torch.stack([x.mean((2, 3)) + x.amax((2, 3)) for x in scales], 2)
        batch, channels, count = described.shape
        mixed = self.channel_scan(described.reshape(batch, channels * count, 1)).reshape(batch, channels * count)
        return torch.sigmoid(self.excite(functional.relu(self.squeeze(mixed)))).reshape(batch, count, self.classes)

    def of_places(self, scales: Sequence[torch.Tensor]) -> torch.Tensor:
        described = torch.stack([torch.stack([x.mean(1), x.amax(1)], -1) for x in scales], 3)
        batch, height, width, count, _ = described.shape
        mixed = self.place_scan(described.reshape(batch, height * width * count, 2))
        return torch.sigmoid(self.place(mixed)).reshape(batch, height, width, count).permute(0, 3, 1, 2)


class ConvolutionGates(nn.Module):
    """The rival at equal size: squeeze-and-excitation and CBAM's 7 x 7 convolution (Woo et al., arXiv 1807.06521), no scan."""

    def __init__(self, channels: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.classes = classes
        self.squeeze, self.excite = nn.Linear(SCALES * channels, hidden), nn.Linear(hidden, SCALES * classes)
        self.place = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, scales: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        described = torch.cat([x.mean((2, 3)) + x.amax((2, 3)) for x in scales], 1)
        of_classes = torch.sigmoid(self.excite(functional.relu(self.squeeze(described)))).reshape(-1, SCALES, self.classes)
        places = [torch.sigmoid(self.place(torch.stack([x.mean(1), x.amax(1)], 1))) for x in scales]
        return of_classes, torch.cat(places, 1)


class MambaBranch(nn.Module):
    """x + two-way Mamba over the places of one scale, row by row; x: (batch, channels, h, w)."""

    def __init__(self, channels: int, state: int) -> None:
        super().__init__()
        self.norm, self.scan = nn.LayerNorm(channels), TwoWayMamba(channels, state, expand=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return x + self.scan(self.norm(tokens)).transpose(1, 2).reshape(x.shape)


class Segmenter(nn.Module):
    """x: (batch, 1, side, side) → scores (batch, side, side, classes).

    gates: "mamba", or "convolution" for the rival.
    """

    def __init__(
        self, widths: tuple[int, int, int, int] = (12, 16, 16, 24), channels: int = 16, classes: int = CLASSES,
        state: int = 4, hidden: int = 8, gates: str = "mamba",
    ) -> None:  # fmt: skip
        super().__init__()
        sizes = (1, *widths)
        self.encoder = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1), nn.ReLU())
            for before, after in zip(sizes, widths, strict=False)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.merge = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in widths[1:])
        self.branches = nn.ModuleList(MambaBranch(channels, state) for _ in widths)
        self.gates = MambaGates(channels, classes, state, hidden) if gates == "mamba" else ConvolutionGates(channels, classes, hidden)
        self.heads = nn.ModuleList(nn.Conv2d(channels, classes, 1) for _ in widths)

    def scales(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Four feature maps (batch, channels, side / 2, side / 2), finest first."""
        features = []
        for encode, lateral in zip(self.encoder, self.lateral, strict=True):
            x = encode(x)
            features.append(lateral(x))
        for index in reversed(range(SCALES - 1)):
            upper = functional.interpolate(features[index + 1], scale_factor=2, mode="bilinear", align_corners=False)
            features[index] = functional.relu(self.merge[index](features[index] + upper))
        mixed = [branch(feature) for branch, feature in zip(self.branches, features, strict=True)]
        return mixed[:1] + [
            functional.interpolate(feature, scale_factor=1 << index, mode="bilinear", align_corners=False)
            for index, feature in enumerate(mixed[1:], 1)
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scales = self.scales(x)
        of_classes, of_places = self.gates(scales)
        votes = torch.stack([head(feature) for head, feature in zip(self.heads, scales, strict=True)], 1)
        classed = (votes * of_classes[..., None, None]).permute(0, 3, 4, 2, 1)
        # A product over the scales: TensorRT-RTX 1.7 took 12 s to build it, and did not end within 10 minutes on the sum that it equals.
        scores = (classed @ of_places.permute(0, 2, 3, 1)[..., None])[..., 0].permute(0, 3, 1, 2)
        return functional.interpolate(scores, scale_factor=2, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


def paper() -> Segmenter:
    """The published widths (ResNet-18, 128 channels a scale, state 16, one gate for each of Synapse's 9 classes)."""
    return Segmenter(widths=(64, 128, 256, 512), channels=128, classes=9, state=16, hidden=8)


def twin() -> Segmenter:
    """The rival of the paper: gates without a scan, at equal size."""
    return Segmenter(gates="convolution")


def samples(count: int, seed: int) -> Samples:
    """Slices with the class of every pixel."""
    image, labels = lesions.slices(count, seed, SIDE)
    return Samples({"x": image}, labels)


def calibration() -> Samples:
    """256 slices."""
    return samples(256, seed=10)


def evaluation() -> Samples:
    """1,000 slices of a seed of their own."""
    return samples(1000, seed=20)


def dice(predicted: np.ndarray, truth: np.ndarray, index: int) -> float:
    """2 |P and T| / (|P| + |T|) of one class over all pixels, in points."""
    p, t = predicted == index, truth == index
    return 200.0 * float((p & t).sum()) / max(1, int(p.sum() + t.sum()))


def _mean_dice(arrays: Sequence[np.ndarray], labels: np.ndarray) -> float:
    predicted = arrays[0].argmax(-1)
    return float(np.mean([dice(predicted, labels, index) for index in range(1, CLASSES)]))


DICE = Metric("mean Dice", "points", _mean_dice, higher_is_better=True, tolerance=0.5)


def loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus 1 - soft Dice over the batch, the paper's sum."""
    shares = scores.softmax(-1)
    one_hot = functional.one_hot(labels, scores.shape[-1]).to(shares.dtype)
    overlap, total = (shares * one_hot).sum((0, 1, 2)), (shares + one_hot).sum((0, 1, 2))
    return functional.cross_entropy(scores.flatten(0, 2), labels.flatten()) + 1 - (2 * overlap / (total + 1.0))[1:].mean()


def train(seed: int = 0, epochs: int = 15, progress: Progress | None = None, network: nn.Module | None = None) -> tuple[nn.Module, float]:
    """Trains on 2,048 slices; returns the network and its Dice on the evaluation slices."""
    torch.manual_seed(seed)
    module = network if network is not None else Segmenter()
    fit(module, samples(2048, 30), samples(256, 40), loss, epochs, seed=seed, rate=4e-3, batch=32, decay=0.01, progress=progress)
    return module, metric_of(REFERENCE, module)


def measure() -> Mapping[str, float]:
    """Dice by class of the system and of the rival with squeeze-and-excitation and CBAM gates, and what the gates weigh in parameters."""
    held_out, found = evaluation(), {}
    for who, module in (("", REFERENCE.module()), (" with SE and CBAM gates", REFERENCE.trained_twin())):
        predicted = outputs(module, held_out).argmax(-1)
        for index, name in enumerate(lesions.CLASSES[1:], 1):
            found[f"Dice of {name}s{who} (points)"] = dice(predicted, held_out.truth, index)
        found[f"parameters of the gates{who}"] = float(sum(p.numel() for p in module.gates.parameters()))  # type: ignore[union-attr]
    return found


REFERENCE = Reference(
    name="attention_mamba",
    build=Segmenter,
    inputs=(TensorSpec(name="x", shape=("batch", 1, SIDE, SIDE), dtype="float32", unit="grey value, deviation about 1", preprocessing="none"),),
    outputs=("scores",),
    source="arXiv 2402.02286; repository Yanhua-Zhang/Attention-Mamba",
    data="procedural slices of 32 x 32 with organs, lesions and vessels",
    claim="gates mixed across scales by Mamba improve segmentation (85.62 % Dice on Synapse)",
    calibration=calibration,
    evaluation=evaluation,
    metric=DICE,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("attention_mamba"),
    measure=measure,
    reached=70.797,
    twin_weights=weights_file("attention_mamba_twin"),
)
