"""What a target is: the seam through which every device family, ours or a third party's, enters the compiler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..errors import InputError, MissingError
from ..runtime.manifest import Check, IntegerLayers

if TYPE_CHECKING:
    import numpy as np

    from ..devices import Device
    from ..export.data import Profile
    from ..export.network import Network
    from ..quantize.recipe import Recipe
    from ..runtime.emulator import Board
    from ..runtime.golden import Golden


@dataclass(frozen=True)
class Finding:
    """One thing that `check` saw. severity "error" stops the compile, "repaired" says what lowering will do."""

    rule: str
    severity: Literal["error", "warning", "repaired"]
    node: str
    message: str


@dataclass(frozen=True)
class Artifact:
    """What one device runs: `files` by bundle path, the engine that runs `main`, what was checked here and what is left.

    layers: precision per quantised or float linear layer, as delivered; integer_layers: read back from the engine.
    """

    engine: str
    main: str
    files: Mapping[str, bytes]
    layers: Mapping[str, str]
    integer_layers: IntegerLayers
    checks: tuple[Check, ...] = ()
    left_to_device: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    evidence: Mapping[str, bytes] = field(default_factory=dict)


class Target(Protocol):
    """A device family. `form` says which graph it takes: "onnx" (onnx_ir.Model) or "nir" (export.network.Network, read from NIR)."""

    name: str
    form: Literal["onnx", "nir"]

    def check(self, graph: Any, device: Device) -> list[Finding]:
        """What this target cannot run or will rewrite, before anything is changed."""


class DenseTarget(Target, Protocol):
    """A target of dense networks: one lowering, precision by recipe.

    precisions: what `--precision` may ask for, narrowest first; takes_profiles: whether its engines are built for certain shapes.
    """

    precisions: tuple[str, ...]
    takes_profiles: bool

    def recipe(self, device: Device) -> Recipe:
        """How networks are quantised for this device unless the user says otherwise."""

    def lower(self, graph: Any, device: Device) -> Any:
        """The graph in the form that the target's engine runs fastest; the argument is left as it was."""

    def package(self, lowered: Any, device: Device, profiles: Mapping[str, Profile], golden: Golden) -> Artifact:
        """The files, with what the engine made of them read back.

        profiles: shapes by input that the user asked for; golden: the vectors that the bundle will carry.
        """


class SpikingTarget(Target, Protocol):
    """A target of spiking networks: scales come from data, and several mappings are compared."""

    def variants(self, graph: Network, device: Device, events: np.ndarray) -> dict[str, Board]:
        """Mappings by name; `events` (samples, steps, inputs) show the ranges that scales are chosen from."""

    def package(self, graph: Network, board: Board, device: Device, trains: dict[str, np.ndarray]) -> Artifact:
        """The files of one mapping. trains: emulated spikes of the golden samples, by population."""


def find_target(name: str) -> Any:
    """The target registered under `name` in the entry-point group `edgeattn.targets`; its `form` says whether dense or spiking.

    Raises InputError for an unknown name, MissingError where the target's own dependencies are not installed.
    """
    found = {point.name: point for point in entry_points(group="edgeattn.targets")}
    if name not in found:
        raise InputError(f"no target is called {name!r}; installed targets: {', '.join(sorted(found)) or 'none'}.")
    try:
        target: Target = found[name].load()
    except ImportError as error:
        raise MissingError(f"target {name} needs {error.name}: pip install 'edgeattn[compile,{name}]'.") from None
    return target
