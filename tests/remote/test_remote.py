"""Boards over SSH, against a real sshd on loopback: what works, and every way it fails, in one sentence and with nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import edgeattn
from edgeattn.cli import main
from edgeattn.devices import read_devices
from edgeattn.errors import EdgeattnError, InputError, MissingError
from edgeattn.models.registry import find
from edgeattn.remote.connection import FOLDER, Address
from edgeattn.remote.on_board import prepare, probe, receive
from edgeattn.remote.probe import devices_file, write_devices
from edgeattn.remote.run import bench_on, verify_on
from edgeattn.targets.jetson.jetpack import line_of

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
needs_sshd = pytest.mark.skipif(not Path(SSHD).exists(), reason="needs sshd: apt-get install openssh-server")
SIMULATION = (
    "import kit.cuda, sys\nfrom simulated_tensorrt import Bindings, Cudart\nkit.cuda.open_library = Cudart\nsys.modules['tensorrt'] = Bindings(10)\n"
)


class Board:
    """A home of its own behind an sshd; `behave` is a line of shell run before each command, which it finds in $SSH_ORIGINAL_COMMAND."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.path = folder, folder / "home", f"{Path(sys.executable).parent}:/usr/bin:/bin"
        self.home.mkdir()
        (folder / "bindings").mkdir()
        (folder / "bindings" / "tensorrt.py").write_text(SIMULATION)
        for name in ("host", "client", "stranger"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.behave("")
        settings = [f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {folder / 'host'}", f"AuthorizedKeysFile {folder / 'client.pub'}"]
        settings += ["StrictModes no", "UsePAM no", "PidFile none", "PasswordAuthentication no", f"ForceCommand {folder / 'command.sh'}"]
        (folder / "config").write_text("\n".join(settings) + "\n")
        with suppress(PermissionError):  # only root's sshd needs it
            Path("/run/sshd").mkdir(parents=True, exist_ok=True)
        self.log = (folder / "log").open("w")
        self.daemon = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=self.log)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError((folder / "log").read_text())

    def behave(self, line: str, path: str | None = None) -> None:
        bindings = f"{self.folder / 'bindings'}:{Path(__file__).parents[1] / 'systems'}"
        script = self.folder / "command.sh"
        variables = f"HOME={self.home} PATH={path or self.path} PYTHONPATH={bindings}"
        script.write_text(f'#!/bin/sh\nexport {variables}\ncd {self.home}\n{line}\nexec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n')
        script.chmod(0o755)

    @property
    def files(self) -> list[str]:
        base = self.home / FOLDER
        return sorted(path.name for path in base.iterdir()) if base.exists() else []


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    board = Board(tmp_path_factory.mktemp("board"))
    yield board
    board.daemon.terminate()
    board.daemon.wait()
    board.log.close()


@pytest.fixture
def board(served, tmp_path, monkeypatch):
    """The board with an empty home, and a user who knows its host key and has a key for it."""
    served.home = tmp_path / "home"  # a new one: a command of a dropped connection may still be ending in the old
    served.home.mkdir()
    served.behave("")
    ssh = tmp_path / "user" / ".ssh"
    ssh.mkdir(parents=True)
    public = (served.folder / "host.pub").read_text()
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{served.port} {public}")
    shutil.copy(served.folder / "client", ssh / "id_ed25519")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    served.ssh = ssh
    return served


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return edgeattn.compile(find("rpattention").weights, "jetson-orin-nano", output=tmp_path_factory.mktemp("bundle") / "a.edge").bundle


@pytest.fixture
def bundle(compiled, tmp_path):
    return shutil.copytree(compiled, tmp_path / "a.edge")


@needs_sshd
def test_verify_runs_the_kit_on_the_board_and_brings_the_result_back(board, bundle):
    said = []
    result = verify_on(bundle, board.host, say=said.append)
    assert result["ok"] and [check["name"] for check in result["checks"]] == ["integrity", "engine", "golden vectors"]
    kept = json.loads((bundle / "evidence" / "verify-127.0.0.1.json").read_text())
    assert kept["board"]["hostname"] == socket.gethostname() and kept["host"] == board.host
    assert any("building the engine" in line for line in said), "what the board says is shown as it comes"
    assert edgeattn.verify(bundle).ok, "the evidence is part of the bundle"
    assert len(board.files) == 1
    verify_on(bundle, board.host, clean=True)
    assert board.files == []


@needs_sshd
def test_bench_measures_on_the_board(board, bundle):
    run = CliRunner().invoke(main, ["bench", str(bundle), "--host", board.host, "--runs", "70", "--json"])
    assert run.exit_code == 0, run.output
    result = json.loads(run.stdout)
    assert result["runs"] == 70 and result["latency_ms"]["p50"] > 0 and result["cold_start_ms"] > 0
    assert json.loads((bundle / "evidence" / "bench-127.0.0.1.json").read_text())["runs"] == 70
    shown = CliRunner().invoke(main, ["bench", str(bundle), "--host", board.host, "--runs", "3", "--every", "20"])
    assert shown.exit_code == 0 and "TensorRT 10.3.0" in shown.output and "3 runs every 20 ms" in " ".join(shown.output.split())


@needs_sshd
def test_a_failed_check_on_the_board_is_exit_code_1(board, bundle):
    output = edgeattn.describe(bundle)["outputs"][0]["name"]
    trouble = SIMULATION.replace("Bindings(10)", f"Bindings(10, spoil={{{output!r}: lambda a: a + 9}})")
    (board.folder / "bindings" / "tensorrt.py").write_text(trouble)
    try:
        run = CliRunner().invoke(main, ["verify", str(bundle), "--host", board.host, "--json"])
    finally:
        (board.folder / "bindings" / "tensorrt.py").write_text(SIMULATION)
    assert run.exit_code == 1
    assert not json.loads(run.stdout)["ok"]


def fails(bundle, host, *sentences, kind=MissingError, work=verify_on):
    before = sorted(path.relative_to(bundle) for path in bundle.rglob("*"))
    with pytest.raises(kind) as error:
        work(bundle, host)
    message = str(error.value)
    assert all(sentence in message for sentence in sentences), message
    assert "\n" not in message and message.endswith(".")
    assert sorted(path.relative_to(bundle) for path in bundle.rglob("*")) == before, "nothing half-written stays here"


@needs_sshd
def test_a_wrong_host_key_is_refused(board, bundle):
    other = (board.folder / "stranger.pub").read_text()
    (board.ssh / "known_hosts").write_text(f"[127.0.0.1]:{board.port} {other}")
    fails(bundle, board.host, "host key is not one you know", "fingerprint")
    (board.ssh / "known_hosts").unlink()
    fails(bundle, board.host, "host key is not one you know")
    assert board.files == []


@needs_sshd
def test_a_key_that_the_board_does_not_know_is_refused(board, bundle):
    shutil.copy(board.folder / "stranger", board.ssh / "id_ed25519")
    fails(bundle, board.host, "takes none of your keys", "ssh-copy-id")


@needs_sshd
def test_a_connection_dropped_while_copying_leaves_nothing(board, bundle):
    board.behave('case "$SSH_ORIGINAL_COMMAND" in *receive.py*) head -c 20000 | /bin/sh -c "$SSH_ORIGINAL_COMMAND" & sleep 1; kill -9 $PPID;; esac')
    fails(bundle, board.host, "was lost", "nothing half-written was kept")
    assert board.files == []


@needs_sshd
def test_a_connection_dropped_while_running_is_told(board, bundle):
    board.behave('case "$SSH_ORIGINAL_COMMAND" in *device/run.py*) kill -9 $PPID; sleep 1;; esac')
    fails(bundle, board.host, "was lost", "run it again", work=bench_on)


@needs_sshd
def test_a_cut_off_transfer_is_found_on_the_board(board, bundle):
    board.behave('case "$SSH_ORIGINAL_COMMAND" in *receive.py*) head -c 20480 | /bin/sh -c "$SSH_ORIGINAL_COMMAND"; exit $?;; esac')
    with pytest.raises(MissingError, match=r"cut off|was lost"):
        verify_on(bundle, board.host)
    assert board.files == []


@needs_sshd
def test_a_full_disk_leaves_nothing(board, bundle):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", board.home], capture_output=True, check=False).returncode == 0
    if not mounted:  # without the right to mount, files that may not grow stand in for a disk that is full
        board.behave("ulimit -f 16")
    try:
        fails(bundle, board.host, "No space left on device" if mounted else "File too large", "nothing half-written was left there")
        assert board.files == []
    finally:
        if mounted:
            subprocess.run(["umount", board.home], check=True)


@needs_sshd
def test_a_board_without_python_is_told(board, bundle):
    board.behave("", path="/nowhere")
    fails(bundle, board.host, "has no python3", "sudo apt install python3")


@needs_sshd
def test_a_board_without_tensorrt_says_what_to_install(board, bundle):
    (board.folder / "bindings" / "tensorrt.py").rename(board.folder / "hidden.py")
    try:
        fails(bundle, board.host, "sudo apt install python3-libnvinfer")
    finally:
        (board.folder / "hidden.py").rename(board.folder / "bindings" / "tensorrt.py")


def test_a_board_that_is_not_there_is_told(compiled, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(MissingError, match=r"cannot be reached .*check its name"):
        verify_on(compiled, f"127.0.0.1:{port}")


@pytest.mark.parametrize("text", ["user:secret@board", "a@b@c", "", "board:port", "-oProxyCommand=sh"])
def test_addresses_that_are_none(text):
    with pytest.raises(InputError, match="not of the form"):
        Address.parse(text)


@pytest.mark.parametrize("text", ["board", "me@board", "me@board.local:2222", "me@[::1]:22"])
def test_addresses(text):
    assert str(Address.parse(text)).replace("::1", "[::1]") == text


def test_damaged_bundles_and_spinnaker_are_refused_before_connecting(bundle, tmp_path):
    (bundle / "model.onnx").write_bytes(b"x")
    with pytest.raises(EdgeattnError, match="copy the bundle again"):
        verify_on(bundle, "board")
    run = CliRunner().invoke(main, ["bench", str(bundle), "--host", "board", "--threads", "2"])
    assert run.exit_code == 2 and "leave them out with --host" in run.stderr


@needs_sshd
def test_an_unknown_board_describes_itself(board, tmp_path):
    run = CliRunner().invoke(main, ["devices", "--probe", board.host, "-o", str(tmp_path / "mine.yaml")])
    assert run.exit_code == 0, run.output
    (name, device), *_ = read_devices(tmp_path / "mine.yaml").devices.items()
    assert device.target == "cpu" and device.cores == os.cpu_count() and device.memory_bytes.value > 1e9
    assert f"devices --probe {board.host}" in device.memory_bytes.source
    assert yaml.safe_load(run.stdout)["devices"].keys() == {name}
    again = CliRunner().invoke(main, ["devices", "--probe", board.host, "-o", str(tmp_path / "mine.yaml")])
    assert again.exit_code == 2 and "already describes" in again.stderr


JETSON = {
    "hostname": "rover",
    "board": "NVIDIA Jetson Orin Nano Developer Kit",
    "cpu": None,
    "architecture": "aarch64",
    "cores": 6,
    "isa": ["fp", "asimd"],
}
JETSON |= {
    "memory_bytes": 7990000000,
    "python": "3.10.12",
    "system": "Linux 5.15.148-tegra",
    "l4t": "36.4.3",
    "tensorrt": "10.3.0",
    "compute_capability": "8.7",
}


def test_a_jetsons_entry_compiles(tmp_path, monkeypatch):
    write_devices(devices_file(JETSON, "me@rover"), tmp_path / "mine.yaml")
    device = read_devices(tmp_path / "mine.yaml").devices["jetson-orin-nano-developer-kit"]
    assert (device.target, device.formats) == ("jetson", ("fp32", "fp16", "int8"))
    assert (line_of(device).name, line_of(device).opset, line_of(device).tensorrt) == ("6.2", 20, (10, 3, 0))
    monkeypatch.setenv("EDGEATTN_DEVICES", str(tmp_path / "mine.yaml"))
    compiled = edgeattn.compile(find("rpattention").weights, device.name, precision="fp16", output=tmp_path / "a.edge")
    assert compiled.manifest.device == device.name
    with pytest.raises(InputError, match="without a TensorRT that edgeattn knows"):
        devices_file({**JETSON, "tensorrt": None, "l4t": "28.1"}, "me@old")


def test_the_boards_scripts_run_on_any_python_a_board_has():
    vermin = Path(sys.executable).with_name("vermin")
    files = [script.__file__ for script in (receive, prepare, probe)]
    assert subprocess.run([vermin, "-t=3.6-", "--no-tips", *files], check=False).returncode == 0


@needs_sshd
@pytest.mark.slow
def test_a_cpu_board_gets_a_virtual_environment_of_its_own(board, ecg_bundle, tmp_path):
    copy = shutil.copytree(ecg_bundle, tmp_path / "ecg.edge")
    board.behave("unset PYTHONPATH")
    assert verify_on(copy, board.host)["ok"]
    assert [name.split("-")[0] for name in board.files] == ["ecg_nat", "lib", "venv"]
    result = bench_on(copy, board.host, runs=70, clean=True)
    assert result["latency_ms"]["p90"] > 0 and board.files == []
    assert edgeattn.verify(copy).ok
