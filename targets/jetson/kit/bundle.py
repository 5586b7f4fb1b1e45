"""The bundle as the board sees it: hashed, then read. Formats: docs/bundle.md; safetensors' format page."""

import hashlib
import json
import os
import struct
from typing import Any, Dict

import numpy as np

from .errors import KitError

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U8": "|u1", "BOOL": "|b1"}
LAYERS = "device/layers.safetensors"


class Bundle:
    """manifest, build: the two JSON files; golden: arrays by `input.NAME`, `reference.NAME`, `artifact.NAME`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.manifest = self._manifest()
        self.files = {name: self._checked(name, entry) for name, entry in self.manifest["files"].items()}
        if "device/build.json" not in self.files:
            raise KitError("{} is no bundle for a Jetson (it has no device/build.json).".format(root))
        self.build = json.loads(self.files["device/build.json"].decode())  # type: Dict[str, Any]
        self.golden = read_safetensors(self.files["golden.safetensors"])
        self.onnx = self.files[self.build["onnx"]]

    @property
    def inputs(self) -> Dict[str, np.ndarray]:
        """The golden inputs by name, samples leading."""
        return {spec["name"]: self.golden["input." + spec["name"]] for spec in self.manifest["inputs"]}

    @property
    def batched(self) -> bool:
        """Whether samples can be run one at a time."""
        return all(spec["shape"] and isinstance(spec["shape"][0], str) for spec in self.manifest["inputs"])

    def layers(self) -> Dict[str, np.ndarray]:
        """What inner tensors held on the compiling machine for the first golden query, in the graph's order; empty where the bundle has none."""
        if LAYERS not in self.files:
            return {}
        arrays = read_safetensors(self.files[LAYERS])
        return {name: arrays[name] for name in self.build["layers"]}

    def _manifest(self) -> Dict[str, Any]:
        path = os.path.join(self.root, "manifest.json")
        try:
            with open(path, "rb") as file:
                data = file.read()
            plain = json.loads(data.decode("utf-8"))
            sealed = plain["digest"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KitError("{} cannot be read ({}): copy the bundle again.".format(path, error))
        plain["digest"] = ""
        if hashlib.sha256(_canonical(plain)).hexdigest() != sealed:
            raise KitError("{} was changed after the bundle was written: copy the bundle again or recompile.".format(path))
        plain["digest"] = sealed
        return plain  # type: ignore[no-any-return]

    def _checked(self, name: str, entry: Dict[str, Any]) -> bytes:
        path = os.path.join(self.root, name)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise KitError("{} cannot be read ({}): copy the bundle again.".format(path, error.strerror))
        if len(data) != entry["size"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise KitError("{} was changed (its sha256 is not the manifest's): copy the bundle again.".format(path))
        return data


def _canonical(plain: Any) -> bytes:
    return (json.dumps(plain, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def read_safetensors(data: bytes) -> Dict[str, np.ndarray]:
    """Eight bytes of header length, a JSON header, the arrays. Raises KitError where that does not hold."""
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length].decode("utf-8"))
        arrays = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            flat = np.frombuffer(data[8 + length + first : 8 + length + last], DTYPES[entry["dtype"]])
            arrays[name] = flat.reshape(entry["shape"])
        return arrays
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise KitError("a .safetensors file of the bundle cannot be read ({}): copy the bundle again.".format(error))
