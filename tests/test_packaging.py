"""What is installed is what is written."""

from __future__ import annotations

import re
from pathlib import Path

import tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOT_SHIPPED = {"tests", "benchmarks", "docs", "build", "dist"}


def test_every_folder_with_modules_is_listed_as_a_package():
    folders = {path.parent.relative_to(ROOT) for path in ROOT.rglob("__init__.py")}
    ours = {folder for folder in folders if not folder.parts or (folder.parts[0] not in NOT_SHIPPED and not folder.parts[0].startswith("."))}
    expected = {".".join(("edgeattn", *folder.parts)) for folder in ours}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == expected


def test_every_direct_dependency_is_pinned_as_tested():
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    extras = PROJECT["project"]["optional-dependencies"]
    needed = [*PROJECT["project"]["dependencies"], *extras["compile"], *extras["zoo"], *extras["test"], *extras["lint"]]
    names = {re.match(r"[A-Za-z0-9._-]+", line).group().lower() for line in needed}
    assert names <= pinned, f"not in constraints.txt: {names - pinned}"


def test_no_file_is_longer_than_four_hundred_lines():
    long = {}
    for path in ROOT.rglob("*.py"):
        if not path.relative_to(ROOT).parts[0].startswith(".") and (count := len(path.read_text().splitlines())) > 400:
            long[path.relative_to(ROOT).as_posix()] = count
    assert not long
