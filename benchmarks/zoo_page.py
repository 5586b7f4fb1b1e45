"""docs/zoo.md out of models/status.json: nothing in it that a run did not measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tables import DOCS, table

from edgeattn.models.reference import Reference

HEADER = """# The zoo

Written by `make zoo` from runs; `edgeattn models --json` gives the same, and a system's file in `models/` its equations, source and data.
Metric: on held-out data, of the shipped weights and of the bundle that passed its gate. Size: the file that the engine reads.
Latency: median of the CPU bundle over that of the same network in float32, and over that of its softmax twin compiled the same way
(95 % interval; below 1 is faster), one thread, one sample, in turn in one process. Jetson: Orin Nano's graph, computed by ONNX Runtime;
what a board makes of it is left to the board. SpiNNaker: the emulator.
"""


def write_page(known: Mapping[str, Reference], found: Mapping[str, Mapping[str, Any]]) -> None:
    """Every system, also those that were never measured: they say so."""
    measured = {name: found.get(name, {}) for name in known}
    rows = [_row(known[name], entry) for name, entry in measured.items()]
    header = ["system", "data", "metric", "trained", "cpu", "size, kB", "against its float32", "against its twin", "jetson", "spinnaker"]
    parts = [HEADER, table(header, rows), "\n## Claims\n\nAs the papers put them, and what was measured here, as it came out.\n"]
    parts += [_claim(known[name], entry) for name, entry in measured.items() if known[name].claim]
    trained = [(name, entry["training"]) for name, entry in measured.items() if "training" in entry]
    parts.append("## Training from scratch\n\n`python benchmarks/zoo.py --train`, another seed than the shipped weights'.\n")
    lines = [
        [name, _number(known[name].reached), _number(t["metric"]), _number(known[name].noise), str(t["seconds"]), t["machine"]] for name, t in trained
    ]
    parts.append(table(["system", "shipped", "seed 1", "best - worst of 3 to 5 seeds", "seconds", "machine"], lines))
    parts.append("\nMeasured on " + "; ".join(sorted({entry["machine"] for entry in measured.values() if "machine" in entry})) + ".")
    (DOCS / "zoo.md").write_text("\n".join(parts) + "\n")


def _row(reference: Reference, entry: Mapping[str, Any]) -> list[str]:
    targets = entry.get("targets", {})
    cpu = targets.get("cpu", {})
    metric = "" if reference.metric is None else reference.metric.name
    size = f"{cpu['bytes'] / 1000:.0f}" if "bytes" in cpu else ""
    ratios = [_ratio(cpu.get(key)) for key in ("against_float", "against_twin")]
    reached = [_reached(reference, targets, target) for target in ("cpu", "jetson", "spinnaker")]
    return [reference.name, reference.data, metric, _number(reference.reached), reached[0], size, *ratios, *reached[1:]]


def _reached(reference: Reference, targets: Mapping[str, Any], target: str) -> str:
    if target not in reference.targets:
        return "-"
    entry = targets.get(target)
    if entry is None:
        return "not measured"
    if "precision" not in entry:
        return f"refused: {entry['why']}"
    agreement = "" if entry["agreement"] is None else f", {100 * entry['agreement']:.1f} % agree"
    failed = "" if entry["passed"] else ", FAILS its gate"
    metric = "" if entry["metric"] is None else f"{_number(entry['metric'])} in "
    return f"{metric}{entry['precision']}{agreement}{failed}"


def _claim(reference: Reference, entry: Mapping[str, Any]) -> str:
    figures = [f"- {name}: {_number(value)}" for name, value in entry.get("figures", {}).items()] or ["- not measured"]
    return "\n".join([f"### {reference.name}\n", f"{reference.claim}. Source: {reference.source}.\n", *figures, ""])


def _ratio(entry: Mapping[str, Any] | None) -> str:
    return "" if entry is None else f"{entry['ratio']:.2f} ({entry['interval'][0]:.2f} to {entry['interval'][1]:.2f})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
