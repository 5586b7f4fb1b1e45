"""Tables that a run writes into a page of docs, between two comments that name them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from edgeattn.errors import InputError
from edgeattn.runtime.machine import cpu_model, isa_flags

DOCS = Path(__file__).parent.parent / "docs"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_section(page: str, name: str, text: str) -> None:
    """Puts `text` between `<!-- NAME -->` and `<!-- end NAME -->` of a page of docs; raises InputError for a page without them."""
    path = DOCS / page
    before, start, rest = path.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end {name} -->")
    if not start or not end:
        raise InputError(f"{path} has no section {name!r}: it stands between two comments of that name.")
    path.write_text(f"{before}{start}{text}\n{end}{after}")


def machine() -> str:
    """The CPU that made a table, and the day."""
    found = sorted(flag for flag in isa_flags() if any(name in flag for name in ("vnni", "bf16", "amx", "i8mm", "asimd", "avx2")))
    return f"{cpu_model()} ({', '.join(found)}), {date.today().isoformat()}"
