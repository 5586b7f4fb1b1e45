"""Which software a Jetson runs, as far as a graph must know it."""

from __future__ import annotations

from dataclasses import dataclass

from ...devices import Device
from ...errors import InputError


@dataclass(frozen=True)
class JetPack:
    """One line of NVIDIA's board software. opset: the newest that its parser takes safely; python: the board's own."""

    name: str
    tensorrt: tuple[int, ...]
    opset: int
    python: str

    def __str__(self) -> str:
        return f"JetPack {self.name} (TensorRT {'.'.join(map(str, self.tensorrt))})"


def line_of(device: Device) -> JetPack:
    """The line that graphs are lowered for: the board's oldest with TensorRT 10, whose graphs newer lines take too, else its newest.

    Raises InputError for a device without software lines.
    """
    lines = [
        JetPack(entry["jetpack"], tuple(int(part) for part in entry["tensorrt"].split(".")), int(entry["opset"]), entry["python"])
        for entry in device.software
    ]
    if not lines:
        raise InputError(f"{device.name} names no JetPack in the devices file: add its `software`.")
    return next((line for line in lines if line.tensorrt >= (10,)), lines[-1])
