"""`Device`: one typed entry of devices.yaml."""

from __future__ import annotations

import msgspec


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure with where it comes from. `value` is in the unit that the field's name ends in."""

    value: float
    source: str


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the compiler and the reports need to know of one board. None: not published, so never used.

    isa: instruction-set features as the kernel names them (avx2, avx512_vnni, asimddp, i8mm ...);
    formats: number formats with a fast path (fp32, fp16, bf16, int8, int4, s16.15);
    peak: operations per second by format; rails: power sensors by the name under which the board reports them;
    software: for boards with a fixed software line (JetPack), version by component.
    """

    name: str
    target: str
    description: str
    cores: int
    memory_bytes: Figure
    isa: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    peak_ops_per_s: dict[str, Figure] = {}
    bandwidth_bytes_per_s: Figure | None = None
    rails: tuple[str, ...] = ()
    software: tuple[dict[str, str], ...] = ()
    extra: dict[str, Figure] = {}
