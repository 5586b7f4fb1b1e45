"""A stopped ARM core's registers as a list of numbers, every mode's own ones among them, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import MissingError

try:
    import unicorn
    from unicorn import arm_const as arm
except ImportError as error:  # pragma: no cover - exercised where the extra is not installed
    raise MissingError("running a board's binaries needs unicorn: pip install 'edgeattn[board]'.") from error

__all__ = ["MODE", "arm", "read_registers", "unicorn", "write_registers"]
MODE = 0x1F
MODES = (0x11, 0x12, 0x13, 0x17, 0x1B, 0x1F)  # fast interrupt, interrupt, supervisor, abort, undefined, system (which shares the user mode's)
COMMON = (*(getattr(arm, f"UC_ARM_REG_R{number}") for number in range(8)), arm.UC_ARM_REG_PC)
BANKED = (*(getattr(arm, f"UC_ARM_REG_R{number}") for number in range(8, 13)), arm.UC_ARM_REG_SP, arm.UC_ARM_REG_LR, arm.UC_ARM_REG_SPSR)
CONTROL = (15, 0, 1, 0, 0, 0, False)  # the system control coprocessor's register 1


def read_registers(machine: Any) -> list[int]:
    """r0 to r7 and pc; r8 to lr and the saved state of each of MODES; the control register; the state."""
    state = machine.reg_read(arm.UC_ARM_REG_CPSR)
    values = [*machine.reg_read_batch(COMMON)]
    for mode in MODES:
        machine.reg_write(arm.UC_ARM_REG_CPSR, state & ~MODE | mode)
        values += machine.reg_read_batch(BANKED)
    machine.reg_write(arm.UC_ARM_REG_CPSR, state)
    return [*values, machine.cpr_read(*CONTROL), state]


def write_registers(machine: Any, values: Sequence[int]) -> None:
    """What `read_registers` gave."""
    machine.reg_write_batch(tuple(zip(COMMON, values, strict=False)))
    *banked, control, state = values[len(COMMON) :]
    for index, mode in enumerate(MODES):
        machine.reg_write(arm.UC_ARM_REG_CPSR, state & ~MODE | mode)
        machine.reg_write_batch(tuple(zip(BANKED, banked[index * len(BANKED) :], strict=False)))
    machine.cpr_write(*CONTROL, control)
    machine.reg_write(arm.UC_ARM_REG_CPSR, state)
