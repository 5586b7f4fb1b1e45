"""`Device`: one typed entry of devices.yaml, and the reader that says file, line and field of what is wrong there."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

from .errors import InputError

SHIPPED = Path(__file__).parent / "devices.yaml"
VARIABLE = "EDGEATTN_DEVICES"  # a file of the user's own devices, merged over the shipped ones


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure with where it comes from, in the unit that its field's name ends in."""

    value: float
    source: str


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the compiler and the reports need to know of one board. None: not published, so never used.

    isa: instruction-set features as the Linux kernel names them (avx2, avx512_vnni, asimddp ...);
    formats: number formats with a fast path (fp32, fp16, bf16, int8, s16.15 ...);
    peak_ops_per_s: by format; rails: power sensors by the name under which the board reports them;
    software: for boards with fixed software lines (JetPack), version by component; extra: what one family needs.
    """

    name: str
    target: str
    description: str
    cores: int | None = None
    isa: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    memory_bytes: Figure | None = None
    bandwidth_bytes_per_s: Figure | None = None
    peak_ops_per_s: dict[str, Figure] = {}
    rails: tuple[str, ...] = ()
    software: tuple[dict[str, str], ...] = ()
    extra: dict[str, Figure] = {}


class Catalogue(msgspec.Struct, frozen=True):
    """All devices by name, and for each alias the devices it may stand for, first choice first."""

    devices: dict[str, Device]
    aliases: dict[str, tuple[str, ...]]


def catalogue() -> Catalogue:
    """The shipped devices, and over them those of the file that EDGEATTN_DEVICES names."""
    own = os.environ.get(VARIABLE)
    shipped = _shipped()
    if not own:
        return shipped
    mine = read_devices(own)
    return Catalogue({**shipped.devices, **mine.devices}, {**shipped.aliases, **mine.aliases})


def find_device(name: str, isa: tuple[str, ...] = ()) -> tuple[Device, str]:
    """(the device, a sentence on how it was chosen, or ""); `name` is a device or an alias such as `cpu`.

    isa: this machine's instruction set, by which an alias with several devices is resolved.
    Raises InputError with near names for an unknown one.
    """
    known = catalogue()
    if name in known.devices:
        return known.devices[name], ""
    if name not in known.aliases:
        names = [*known.aliases, *known.devices]
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names
        raise InputError(f"no device is called {name!r}; did you mean {', '.join(near)}? `edgeattn devices` lists all.")
    choices = [known.devices[choice] for choice in known.aliases[name]]
    device = next((choice for choice in choices if set(choice.isa) <= set(isa)), choices[0])
    why = " (the first that this machine's instruction set fits)" if len(choices) > 1 else ""
    return device, f"{name} stands for {device.name}{why}; name another with --target."


def with_software(device: Device, component: str, version: str) -> Device:
    """The device with only that software line; InputError, naming those it has, for another."""
    known = [line[component] for line in device.software if component in line]
    if version not in known:
        raise InputError(f"{device.name} has no {component} {version}" + (f": it runs {', '.join(known)}." if known else " at all."))
    return msgspec.structs.replace(device, software=tuple(line for line in device.software if line.get(component) == version))


@cache
def _shipped() -> Catalogue:
    return read_devices(SHIPPED)


def read_devices(path: str | Path) -> Catalogue:
    """Reads a devices file; raises InputError that names file, line and field of the first thing wrong."""
    file = Path(path)
    try:
        root = yaml.compose(file.read_text(), Loader=yaml.SafeLoader)
        plain = yaml.safe_load(file.read_text())
    except OSError as error:
        raise InputError(f"devices file {file} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise InputError(f"{file}{line}: not valid YAML: {getattr(error, 'problem', error)}.") from None
    reader = _Reader(file, root)
    reader.check_duplicates(root)
    reader.require(isinstance(plain, dict) and isinstance(plain.get("devices"), dict), ("devices",), "a mapping of devices is needed")
    for key in plain:
        reader.require(key in {"schema", "aliases", "sources", "software", "devices"}, (key,), "unknown section")
    sources = plain.get("sources") or {}
    devices = {name: reader.device(str(name), entry, sources) for name, entry in plain["devices"].items()}
    return Catalogue(devices, reader.aliases(plain.get("aliases") or {}, devices))


class _Reader:
    """Turns plain YAML into devices, with the line of every complaint."""

    def __init__(self, file: Path, root: yaml.Node | None) -> None:
        self.file, self.root = file, root

    def require(self, condition: bool, path: tuple[str, ...], message: str) -> None:
        if not condition:
            raise InputError(f"{self.file}:{self._line(path)}: {'.'.join(map(str, path))}: {message}.")

    def device(self, name: str, entry: Any, sources: Mapping[str, str]) -> Device:
        path = ("devices", name)
        self.require(isinstance(entry, dict), path, "a mapping of fields is needed")
        try:
            device = msgspec.convert({**entry, "name": name}, Device)
        except msgspec.ValidationError as error:
            message, _, where = str(error).partition(" - at ")
            fields = tuple(re.findall(r"[A-Za-z_]\w*", where))
            unknown = re.search(r"unknown field `(\w+)`", message)
            raise InputError(
                f"{self.file}:{self._line((*path, *fields, *(unknown.groups() if unknown else ())))}: {'.'.join((*path, *fields))}: {message}."
            ) from None
        named = {key: figure for key in ("memory_bytes", "bandwidth_bytes_per_s") if (figure := getattr(device, key)) is not None}
        for key, figure in [*named.items(), *device.peak_ops_per_s.items(), *device.extra.items()]:
            self.require(figure.source in sources, (*path, key), f"source {figure.source!r} is not in the file's sources")
        return _with_sources(device, sources)

    def aliases(self, plain: Mapping[str, Any], devices: Mapping[str, Device]) -> dict[str, tuple[str, ...]]:
        for alias, names in plain.items():
            self.require(isinstance(names, list) and len(names) > 0, ("aliases", alias), "a list of device names is needed")
            for name in names:
                known = name in devices or (self.file != SHIPPED and name in _shipped().devices)
                self.require(known, ("aliases", alias), f"no device is called {name!r}")
        return {alias: tuple(names) for alias, names in plain.items()}

    def check_duplicates(self, node: yaml.Node | None, path: tuple[str, ...] = ()) -> None:
        """YAML lets a later key win in silence; here it is an error."""
        if not isinstance(node, yaml.MappingNode):
            return
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise InputError(f"{self.file}:{key.start_mark.line + 1}: {'.'.join((*path, key.value))}: given twice.")
            seen.add(key.value)
            self.check_duplicates(value, (*path, key.value))

    def _line(self, path: tuple[str, ...]) -> int:
        """The line of the deepest part of `path` that the file has."""
        node, line = self.root, 1
        for part in path:
            if not isinstance(node, yaml.MappingNode):
                break
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        return line


def _with_sources(device: Device, sources: Mapping[str, str]) -> Device:
    """Figures with their sources written out."""

    def spell(figure: Figure | None) -> Figure | None:
        return None if figure is None else Figure(figure.value, sources[figure.source])

    return msgspec.structs.replace(
        device,
        memory_bytes=spell(device.memory_bytes),
        bandwidth_bytes_per_s=spell(device.bandwidth_bytes_per_s),
        peak_ops_per_s={key: spell(figure) for key, figure in device.peak_ops_per_s.items()},
        extra={key: spell(figure) for key, figure in device.extra.items()},
    )


def describe_devices(name: str | None, isa: tuple[str, ...] = ()) -> dict[str, Any]:
    """Everything about all devices and what the aliases stand for on this machine, or about one device."""
    if name is not None:
        device, note = find_device(name, isa)
        return {"device": msgspec.to_builtins(device), "note": note}
    known = catalogue()
    aliases = {alias: find_device(alias, isa)[0].name for alias in known.aliases}
    return {"devices": msgspec.to_builtins(known.devices), "aliases": aliases}
