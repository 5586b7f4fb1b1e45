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
    from ..quantize.recipe import Between, Floats, Recipe
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

    layers: precision per quantised or float linear layer, as delivered; integer_layers: read back from the engine;
    floats: what the rest runs in.
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
    floats: str = "fp32"


class Target(Protocol):
    """A device family. `form` says which graph it takes: "onnx" (onnx_ir.Model) or "nir" (export.network.Network, read from NIR)."""

    name: str
    form: Literal["onnx", "nir"]

    def check(self, graph: Any, device: Device) -> list[Finding]:
        """What this target cannot run or will rewrite, before anything is changed."""


class HostSession(Protocol):
    """What onnxruntime's InferenceSession offers of itself here."""

    def run(self, names: None, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs in the graph's order."""


class DenseTarget(Target, Protocol):
    """A target of dense networks: one lowering, precision by recipe.

    engine: what runs its artifact on a host; precisions: what `--precision` may ask for, narrowest first; takes_profiles: whether its
    engines are built for certain shapes.
    """

    engine: str
    precisions: tuple[str, ...]
    takes_profiles: bool

    def alternatives(self) -> tuple[DenseTarget, ...]:
        """The same devices by other engines that are installed here."""

    def recipe(self, device: Device) -> Recipe:
        """How networks are quantised for this device unless the user says otherwise."""

    def coarser(self, recipe: Recipe, device: Device) -> Recipe | None:
        """The recipe with coarser integers that this device multiplies faster, for `auto` to try first; None where there are none."""

    def between(self, device: Device) -> tuple[Between, ...]:
        """What is worth trying in integers between the layers of this device's networks."""

    def lower(self, graph: Any, device: Device) -> Any:
        """The graph in the form that the target's engine runs fastest; the argument is left as it was."""

    def floats(self, isa: tuple[str, ...]) -> tuple[Floats, ...]:
        """What is worth trying for what is not quantised, on a CPU with these features."""

    def session(self, lowered: Any) -> HostSession:
        """Runs a lowered graph on this machine, to be judged, timed and kept as golden outputs."""

    def floating(self, lowered: Any, session: Any) -> list[str]:
        """Quantised layers of a lowered graph that its session computes in float all the same: quantising them only costs accuracy."""

    def package(self, lowered: Any, device: Device, profiles: Mapping[str, Profile], golden: Golden, session: Any) -> Artifact:
        """The files, with what the engine made of them read back.

        profiles: shapes by input that the user asked for; golden: the vectors that the bundle will carry; session: over the lowered graph, open
        already.
        """


class SpikingTarget(Target, Protocol):
    """A target of spiking networks: scales come from data, and several mappings are compared."""

    def variants(self, graph: Network, device: Device, events: np.ndarray) -> dict[str, Board]:
        """Mappings by name; `events` (samples, steps, inputs) show the ranges that scales are chosen from."""

    def package(self, graph: Network, board: Board, device: Device, trains: dict[str, np.ndarray]) -> Artifact:
        """The files of one mapping. trains: emulated spikes of the golden samples, by population."""


ENGINES = {"cpu": ("onnxruntime", "openvino")}  # for the sentence about one that is not installed


def find_target(name: str, engine: str | None = None) -> Any:
    """The target registered under `name` in the entry-point group `edgeattn.targets`; its `form` says whether dense or spiking.

    engine: that of the target's engines; None: its first. Raises InputError for an unknown name, MissingError where the target's own
    dependencies are not installed.
    """
    found = {point.name: point for point in entry_points(group="edgeattn.targets")}
    if name not in found:
        raise InputError(f"no target is called {name!r}; installed targets: {', '.join(sorted(found)) or 'none'}.")
    try:
        target: Any = found[name].load()
    except ImportError as error:
        raise MissingError(f"target {name} needs {error.name}: pip install 'edgeattn[compile,{name}]'.") from None
    if engine is None:
        return target
    choices = {choice.engine: choice for choice in (target, *target.alternatives())} if target.form == "onnx" else {}
    if engine not in choices and engine in ENGINES.get(name, ()):
        raise MissingError(f"engine {engine} is not installed: pip install 'edgeattn[{engine}]'.")
    if engine not in choices:
        raise InputError(f"target {name} has no engine {engine!r}" + (f": it has {', '.join(choices)}." if choices else " to choose."))
    return choices[engine]
