"""Gated subspace inference: a linear layer reads a small image of its weight, and the whole weight only for tokens that need it.

    y = (W U)(U^T x) + g W (x - U U^T x) + b,   g = 1 where |x - U U^T x| > tolerance |x|, else 0

x: (batch, tokens, in); W: (out, in); U: (in, rank), orthonormal, the strongest directions of the layer's inputs on calibration data (their
right singular vectors, uncentred); W U: (out, rank), computed once; g: (batch, tokens, 1). Since U is orthonormal both halves add up to W x
and |x - U U^T x|^2 = |x|^2 - |U^T x|^2, so a token takes W x or (W U)(U^T x) and nothing is projected back.

Thomas, "Gated Subspace Inference for Transformer Acceleration" (arXiv 2605.03109); the form of gate and basis is derived here from the abstract.
The paper refreshes its basis as it runs; here it is fixed, so a compiled graph holds constants only. A static graph computes both branches: what the
gate saves is memory traffic, and an engine without branches does not save it. `edgeattn compile --subspace` drops the gated half instead.
Task: which bracket is open after each token of a nested text.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.manifest import TensorSpec
from .data.brackets import KINDS, LENGTH, VOCABULARY, nested_brackets
from .layers import Block, SelfAttention, merge_heads, split_heads
from .metrics import ACCURACY
from .reference import Reference, Samples
from .registry import weights_file
from .training import Progress, cross_entropy, fit, metric_of, outputs, tensors

TOLERANCE = 0.05  # the paper's operating point


class GatedLinear(nn.Module):
    """A linear layer on the subspace U of its inputs, whole where a token leaves it; x: (..., in) → (..., out)."""

    def __init__(self, inputs: int, outputs: int, rank: int, tolerance: float = TOLERANCE) -> None:
        super().__init__()
        self.basis = nn.Linear(inputs, rank, bias=False)  # U^T
        self.image = nn.Linear(rank, outputs)  # W U, b
        self.whole = nn.Linear(inputs, outputs)  # W, b
        self.tolerance = tolerance

    def leaves(self, x: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """g, (..., 1): whether more than `tolerance` of a token's norm lies outside the subspace; inside = U^T x."""
        kept = (inside * inside).sum(-1, keepdim=True)
        return kept < (1 - self.tolerance**2) * (x * x).sum(-1, keepdim=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside = self.basis(x)
        return torch.where(self.leaves(x, inside), self.whole(x), self.image(inside))

    @classmethod
    def of(cls, linear: nn.Linear, basis: torch.Tensor, tolerance: float = TOLERANCE) -> GatedLinear:
        """The gated form of a trained layer; basis: (rank, in), orthonormal rows."""
        gated = cls(linear.in_features, linear.out_features, len(basis), tolerance)
        gated.whole.load_state_dict(linear.state_dict())
        gated.basis.load_state_dict({"weight": basis})
        gated.image.load_state_dict({"weight": linear.weight.detach() @ basis.T, "bias": linear.bias})
        return gated


class CausalAttention(SelfAttention):
    """Softmax attention in which no token sees a later one; x: (batch, tokens, dim) → (batch, tokens, dim)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value))
        return self.project(merge_heads(functional.scaled_dot_product_attention(q, k, v, is_causal=True)))


class Decoder(nn.Module):
    """A causal transformer over tokens (batch, length), scores (batch, length, classes). This is the twin: every layer reads its whole weight."""

    def __init__(
        self, vocabulary: int = VOCABULARY, classes: int = KINDS + 1, length: int = LENGTH, dim: int = 48, depth: int = 2, heads: int = 4,
        expansion: int = 2,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed = nn.Embedding(vocabulary, dim)
        self.position = nn.Parameter(0.02 * torch.randn(1, length, dim))
        self.blocks = nn.Sequential(*[Block(dim, CausalAttention(dim, heads), expansion) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.blocks(self.embed(tokens) + self.position)))


class GatedSubspace(Decoder):
    """The decoder with the linear layers of its blocks in gated form, each on a share of its inputs' dimensions."""

    def __init__(self, share: float = 1 / 3, **sizes: int) -> None:
        super().__init__(**sizes)
        self.share = share
        for parent, name, linear in block_linears(self):
            setattr(parent, name, GatedLinear(linear.in_features, linear.out_features, round(share * linear.in_features)))

    def take(self, decoder: Decoder, samples: Samples) -> GatedSubspace:
        """Becomes the gated form of a trained decoder, with bases from the samples; returns itself."""
        own = self.state_dict()
        self.load_state_dict({key: value for key, value in decoder.state_dict().items() if key in own}, strict=False)
        activations = layer_inputs(decoder, samples)
        for parent, name, linear in block_linears(decoder):
            basis = strongest_directions(activations[linear], round(self.share * linear.in_features))
            home = self.get_submodule(next(path for path, module in decoder.named_modules() if module is parent))
            setattr(home, name, GatedLinear.of(linear, basis))
        return self


def block_linears(decoder: Decoder) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """(parent, name, layer) of every linear layer inside the blocks."""
    for parent in list(decoder.blocks.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                yield parent, name, child


def layer_inputs(module: nn.Module, samples: Samples) -> dict[nn.Module, torch.Tensor]:
    """What every linear layer reads on the samples: (samples * tokens, in)."""
    seen: dict[nn.Module, torch.Tensor] = {}

    def keep(layer: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen[layer] = args[0].flatten(0, -2)

    hooks = [layer.register_forward_pre_hook(keep) for layer in module.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        module.eval()(**tensors(samples.inputs, next(module.parameters()).device))
    for hook in hooks:
        hook.remove()
    return seen


def strongest_directions(x: torch.Tensor, rank: int) -> torch.Tensor:
    """(rank, in): the orthonormal directions that hold most of the squared norm of x, (tokens, in)."""
    return torch.linalg.eigh((x.T @ x).double())[1].flip(1)[:, :rank].T.to(x.dtype).contiguous()


def paper() -> GatedSubspace:
    """GPT-2's width and depth over these tokens; a third of the dimensions is the paper's k = 256 of 768."""
    return GatedSubspace(dim=768, depth=12, heads=12, expansion=4)


def twin() -> Decoder:
    """Every layer reads its whole weight."""
    return Decoder()


def calibration() -> Samples:
    """256 texts."""
    return nested_brackets(256, seed=1)


def evaluation() -> Samples:
    """1,024 other texts."""
    return nested_brackets(1024, seed=2)


def train(seed: int = 0, epochs: int = 16, progress: Progress | None = None, network: Decoder | None = None) -> tuple[nn.Module, float]:
    """Trains a plain decoder and puts it into gated form (network: a plain one stays plain); returns it and its accuracy by token."""
    torch.manual_seed(seed)
    decoder = network if network is not None else Decoder()
    data, validation = nested_brackets(8192, seed + 100), nested_brackets(512, seed=3)
    fit(decoder, data, validation, cross_entropy, epochs, seed=seed, rate=3e-3, batch=128, progress=progress)
    module = decoder if network is not None else GatedSubspace().take(decoder, calibration()).eval()
    return module, metric_of(REFERENCE, module)


def skipped_and_read(module: GatedSubspace, samples: Samples) -> tuple[float, float]:
    """The share of tokens that skip the whole weight, and the weights read for one token over those of the plain layers.

    Read: basis and image for every token (the basis once for query, key and value, which share their input), the whole weight where g = 1.
    """
    activations = layer_inputs(module, samples)
    layers = [layer for layer in module.modules() if isinstance(layer, GatedLinear)]
    skips, read, plain = [], 0.0, 0
    bases: set[bytes] = set()
    for layer in layers:
        x = activations[layer.basis]
        leaves = float(layer.leaves(x, x @ layer.basis.weight.detach().T).float().mean())
        basis = layer.basis.weight.detach().numpy().tobytes()
        read += layer.image.weight.numel() + leaves * layer.whole.weight.numel() + (0 if basis in bases else layer.basis.weight.numel())
        bases.add(basis)
        skips.append(1 - leaves)
        plain += layer.whole.weight.numel()
    return float(np.mean(skips)), read / plain


def measure() -> dict[str, float]:
    """Agreement with the plain network, residuals skipped and weights read, at the paper's tolerance and looser ones."""
    held_out = evaluation()
    plain = outputs(REFERENCE.trained_twin(), held_out)
    labels = torch.from_numpy(held_out.truth)
    loss = float(cross_entropy(torch.from_numpy(plain), labels))
    figures = {"accuracy of the plain network %": ACCURACY.compute([plain], held_out.truth)}
    module = REFERENCE.module()
    for tolerance in (TOLERANCE, 0.1, 0.2, 1.0):
        for layer in module.modules():
            if isinstance(layer, GatedLinear):
                layer.tolerance = tolerance
        scores = outputs(module, held_out)
        skipped, read = skipped_and_read(module, held_out)
        figures[f"top-1 agreement % at tolerance {tolerance:g}"] = 100 * float(np.mean(scores.argmax(-1) == plain.argmax(-1)))
        figures[f"residuals skipped % at tolerance {tolerance:g}"] = 100 * skipped
        figures[f"weight reads saved x at tolerance {tolerance:g}"] = 1 / read
        figures[f"perplexity ratio at tolerance {tolerance:g}"] = float(np.exp(float(cross_entropy(torch.from_numpy(scores), labels)) - loss))
    return figures


REFERENCE = Reference(
    name="gated_subspace",
    build=GatedSubspace,
    inputs=(TensorSpec(name="tokens", shape=("batch", LENGTH), dtype="int64", unit="token number", preprocessing="0 filler, 1-6 open, 7-12 close"),),
    outputs=("scores",),
    source="arXiv 2605.03109, from its abstract",
    data="procedural nested brackets of six kinds, which one is open after each token",
    claim="3.0x-10.5x fewer linear-layer weight reads, perplexity ratio below 1.00, top-1 agreement above 98 %",
    calibration=calibration,
    evaluation=evaluation,
    metric=ACCURACY,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("gated_subspace"),
    measure=measure,
    reached=99.939,
    twin_weights=weights_file("gated_subspace_twin"),
)
