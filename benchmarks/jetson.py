"""Every dense system of the zoo for four Jetsons, gated on the host, into docs/jetson.md: python benchmarks/jetson.py [NAME...]

With the `jetson` extra installed TensorRT-RTX parses and builds each graph; it stands in for no board's latency.
"""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tables import machine, table, write_section

import edgeattn
from edgeattn.devices import find_device
from edgeattn.errors import EdgeattnError
from edgeattn.models.reference import Reference
from edgeattn.models.registry import find, systems
from edgeattn.targets.jetson.check import RULES, Rule

DEVICES = ("jetson-nano", "jetson-agx-xavier", "jetson-orin-nano", "jetson-thor")
CASES = tuple((device, kind) for device in DEVICES for kind in ("fp16", "int8") if kind in find_device(device)[0].formats)


@dataclass
class Case:
    """What one compilation gave. seen: what TensorRT-RTX said, None where it is not installed."""

    shown: str
    refusal: str = ""
    precision: str = ""
    repaired: frozenset[str] = frozenset()
    seen: str | None = None


def main(names: list[str]) -> None:
    """One row a network; all networks go into the page, some are printed."""
    print("| network | metric | trained | " + " | ".join(f"{device.removeprefix('jetson-')} {kind}" for device, kind in CASES) + " |", flush=True)
    rows, remarks = [], []
    chosen = names or [name for name, reference in systems().items() if "jetson" in reference.targets]
    with ProcessPoolExecutor(2) as workers:  # nothing is timed here
        for row, notes in workers.map(_row, chosen):
            print("| " + " | ".join(row) + " |", *notes, sep="\n", flush=True)
            rows.append(row)
            remarks += notes
    if not names:
        header = ["network", "metric", "trained", *(f"{device.removeprefix('jetson-')} {kind}" for device, kind in CASES), "repaired", "TensorRT-RTX"]
        write_section("jetson.md", "rules", table(["rule", "what it finds", "TensorRT", "evidence", ""], [_rule(rule) for rule in RULES]))
        write_section(
            "jetson.md", "measured", "\n\n".join([f"{_version()} `python benchmarks/jetson.py`, {machine()}", table(header, rows), *remarks])
        )


def _rule(rule: Rule) -> list[str]:
    what = " ".join((rule.find.__doc__ or "").split())
    return [f"`{rule.id}`", what, rule.versions, rule.evidence, "" if rule.severity == "error" else rule.severity]


def _row(name: str) -> tuple[list[str], list[str]]:
    reference = find(name)
    with tempfile.TemporaryDirectory() as folder:
        cases = {f"{device} {kind}": _case(reference, device, kind, Path(folder)) for device, kind in CASES}
    repaired = sorted(frozenset().union(*(case.repaired for case in cases.values())))
    seen = [case.seen for case in cases.values() if case.seen is not None]
    accepted = f"accepted {sum(text.startswith('accepted') for text in seen)} of {len(seen)}" if seen else "not installed"
    shown = [case.shown + ("" if not case.precision else f" ({case.precision})") for case in cases.values()]
    trained = "" if reference.reached is None else f"{reference.reached:.4g}"
    metric = reference.metric.name if reference.metric else ""
    notes = [f"{reference.name}, {where}: {case.refusal}" for where, case in cases.items() if case.refusal]
    notes += [f"{reference.name}, {where}: {case.seen}" for where, case in cases.items() if case.seen and not case.seen.startswith("accepted")]
    return [reference.name, metric, trained, *shown, ", ".join(repaired) or "nothing", accepted], notes


def _case(reference: Reference, device: str, precision: str, folder: Path) -> Case:
    try:
        compiled = edgeattn.compile(reference.weights, device, model=reference.name, precision=precision, output=folder / "a.edge")
    except EdgeattnError as error:
        return Case("refused", refusal=str(error))
    manifest = compiled.manifest
    repaired = frozenset(finding.rule.removeprefix("trt.") for finding in compiled.findings if finding.severity == "repaired")
    seen = next((check.detail for check in manifest.checks if check.name == "TensorRT-RTX"), None)
    metric = manifest.parity.metric
    shown = "passed" if metric is None else f"{metric.artifact:.4g}"
    return Case(shown, "", "" if manifest.precision == precision else manifest.precision, repaired, seen)


def _version() -> str:
    try:
        import tensorrt_rtx
    except ImportError:
        return "Without TensorRT-RTX."
    return f"TensorRT-RTX {tensorrt_rtx.__version__} (builds for desktop GPUs, SM 86 in place of Orin's 87: a hint, not proof)."


if __name__ == "__main__":
    main(sys.argv[1:])
