"""Every dense system of the zoo for four Jetsons, gated on the host: python benchmarks/jetson.py   (with the `jetson` extra: TensorRT-RTX too)"""

from __future__ import annotations

import tempfile
from pathlib import Path

import edgeattn
from edgeattn.devices import find_device
from edgeattn.errors import EdgeattnError
from edgeattn.models.registry import systems

DEVICES = ("jetson-nano", "jetson-agx-xavier", "jetson-orin-nano", "jetson-thor")


def main() -> None:
    """One row a network, device and precision that the device has."""
    print("| network | device | precision | metric: trained, bundle | repaired | TensorRT-RTX |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, reference in systems().items():
            if reference.targets == ("spinnaker",):
                continue
            for device in DEVICES:
                formats = find_device(device)[0].formats
                for precision in (kind for kind in ("fp16", "int8") if kind in formats):
                    print(f"| {name} | {device} | {_row(reference.weights, device, precision, Path(folder))} |", flush=True)


def _row(weights: Path | None, device: str, precision: str, folder: Path) -> str:
    try:
        compiled = edgeattn.compile(weights, device, precision=precision, output=folder / "a.edge")
    except EdgeattnError as error:
        return f"{precision} | refused: {error} | | "
    manifest = compiled.manifest
    metric = manifest.parity.metric
    repaired = sorted({finding.rule.removeprefix("trt.") for finding in compiled.findings if finding.severity == "repaired"})
    seen = next((("accepted" if check.ok else check.detail) for check in manifest.checks if check.name == "TensorRT-RTX"), "not installed")
    return f"{manifest.precision} | {metric.reference:.2f}, {metric.artifact:.2f} {metric.unit} | {', '.join(repaired) or 'nothing'} | {seen}"


if __name__ == "__main__":
    main()
