"""`edgeattn board` as a user starts it, and where its binaries come from."""

from __future__ import annotations

import signal
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest

pytest.importorskip("unicorn", reason="emulated cores need unicorn: pip install 'edgeattn[board]'")

from edgeattn.board import aplx
from edgeattn.board.state import restore
from edgeattn.errors import MissingError


def test_the_board_says_where_it_is_and_whose_binaries_it_runs_under_which_licence(spynnaker, new_host):
    host = new_host()
    command = [sys.executable, "-m", "edgeattn", "board", "--host", host]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as board:
        first, _, *packages = [board.stdout.readline() for _ in range(2 + len(aplx.PACKAGES))]
        board.send_signal(signal.SIGTERM)
    assert f"48 chips at {host}, port 17893" in first
    for name, line in zip(aplx.PACKAGES, packages, strict=True):
        assert line == f"binaries of {name} {metadata(name)['Version']} (Apache-2.0)\n"
    assert board.returncode == 0


def test_a_board_ends_in_a_file_and_goes_on_from_it(spynnaker, new_host, tmp_path):
    state, said = tmp_path / "board.state", []
    for _ in range(2):
        command = [sys.executable, "-m", "edgeattn", "board", "--host", new_host(), "--state", str(state)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as board:
            board.stdout.readline()
            board.send_signal(signal.SIGTERM)
            said.append(board.stdout.read())
    assert all(f"the board's state is in {state}" in text for text in said)
    assert len(restore(state)[0].chips) == 48


def test_binaries_that_are_not_installed_are_named_with_how_to_get_them(monkeypatch):
    monkeypatch.setattr(aplx, "PACKAGES", ("sPyNNaker-of-tomorrow",))
    with pytest.raises(MissingError, match=r"sPyNNaker-of-tomorrow, which is not installed: pip install 'edgeattn\[board\]'"):
        aplx.origins()


def test_no_binary_is_part_of_the_project(spynnaker):
    """No kept file holds a stretch of IF_curr_exp's code."""
    import spynnaker as package

    project = Path(aplx.__file__).parents[1]
    code = (Path(package.__file__).parent / "pyNN" / "model_binaries" / "IF_curr_exp.aplx").read_bytes()
    stretches = {code[start : start + 64] for start in range(0x400, len(code) - 64, 0x800)}
    listed = subprocess.run(["git", "-C", str(project), "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout")
    files = [project / name for name in listed.stdout.split("\0") if name]
    assert not [file for file in files if file.suffix in (".aplx", ".dict", ".boot") or any(part in file.read_bytes() for part in stretches)]
