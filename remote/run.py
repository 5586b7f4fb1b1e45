"""`verify --host` and `bench --host`: the bundle goes to the board, its kit or our runtime runs there, the result becomes evidence."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingError
from ..runtime.bundle import EVIDENCE, Bundle, add_evidence
from .connection import FOLDER, SCRIPTS, Address, Board, Say, on_board
from .spinnaker import SCRIPT, verify_on_spinnaker

PACKAGE = Path(__file__).parents[1]
RUNTIME = ("__init__.py", "__main__.py", "cli.py", "views.py", "errors.py", "devices.py", "devices.yaml", "runtime/*.py")
OLDEST_PYTHON = (3, 10)  # what the runtime needs; a Jetson's kit needs 3.6


def verify_on(path: str | Path, host: str, clean: bool = False, say: Say = lambda _: None) -> dict[str, Any]:
    """What `verify --json` prints on the board. clean: everything put there is removed afterwards.

    Raises InputError for a bundle or address that cannot be, MissingError for what the board or the way to it lacks.
    """
    return _run(path, host, "verify", [], clean, say)


def bench_on(
    path: str | Path,
    host: str,
    runs: int = 1000,
    seconds: float | None = None,
    every: float | None = None,
    clean: bool = False,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """What `bench --json` prints on the board; parameters as in `runtime.bench.bench`, errors as in `verify_on`."""
    given = {"--runs": runs, "--seconds": seconds, "--every": every}
    options = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    return _run(path, host, "bench", options, clean, say)


def _run(path: str | Path, host: str, command: str, options: list[str], clean: bool, say: Say) -> dict[str, Any]:
    address = Address.parse(host)
    bundle = Bundle.open(path)
    if bundle.manifest.target == "spinnaker" and command != "verify":
        raise InputError(f"{path} is for SpiNNaker, which has no SSH: only `verify --host` runs there.")
    if bundle.manifest.target == "spinnaker":
        say(f"running {SCRIPT} on {address.host}")
        return _kept(path, host, command, verify_on_spinnaker(bundle, address.host))

    async def work(board: Board) -> dict[str, Any]:
        version = await board.python()
        folder = f"{FOLDER}/{_plain(bundle.manifest.name)}-{bundle.manifest.digest[:16]}"
        await board.send(_files(bundle), folder)
        say(f"running {command} on {address}")
        if "device/run.py" in bundle.files:
            result = await board.answer(["python3", f"{folder}/device/run.py", command, *options, "--json"])
        else:
            result = await _with_runtime(board, version, _requirements(bundle.manifest.engine), [command, folder, *options])
        result["board"] = await board.answer(["python3", "-c", (SCRIPTS / "probe.py").read_text()])
        if clean:
            await board.remove()
        return result

    return _kept(path, str(address), command, on_board(address, work, say))


def _kept(path: str | Path, host: str, command: str, result: dict[str, Any]) -> dict[str, Any]:
    """Notes the host and keeps the result in the bundle's evidence."""
    result["host"] = host
    body = (json.dumps(result, indent=2, sort_keys=True) + "\n").encode()
    add_evidence(path, f"{command}-{_plain(Address.parse(host).host)}.json", body)
    return result


async def _with_runtime(board: Board, version: tuple[int, ...], needed: list[str], words: list[str]) -> dict[str, Any]:
    """Our runtime beside a virtual environment of its own; nothing else of the board is touched."""
    if version < OLDEST_PYTHON:
        raise MissingError(f"{board.address} has Python {'.'.join(map(str, version))}, the runtime needs 3.10 or newer.")
    files = _runtime_files()
    library = f"{FOLDER}/lib-{_digest(files)}"
    await board.send({f"edgeattn/{name}": data for name, data in files.items()}, library)
    environment = f"{FOLDER}/venv-{'.'.join(map(str, version[:2]))}-{hashlib.sha256(' '.join(needed).encode()).hexdigest()[:8]}"
    board.say(f"preparing a virtual environment on {board.address} (minutes, the first time)")
    code, _, said = await board.script("prepare", [environment, *needed])
    if code != 0:
        raise MissingError(f"{board.address}: its virtual environment cannot be made ({(said.strip() or 'no message').splitlines()[-1]}).")
    variables = {"PYTHONPATH": library, "PYTHONDONTWRITEBYTECODE": "1"}
    return await board.answer([f"{environment}/bin/python", "-m", "edgeattn", *words, "--json"], variables)


def _requirements(engine: str) -> list[str]:
    """What pip must bring for the runtime and a bundle's engine."""
    listed = (re.match(r"([^;]+?)\s*(?:;\s*extra == ['\"]([\w-]+)['\"])?$", line) for line in requires("edgeattn") or [])
    return sorted(found[1] for found in listed if found and found[2] in (None, engine))


def _files(bundle: Bundle) -> dict[str, bytes]:
    """The bundle as it lies here, evidence included: what arrives must pass the same checks."""
    names = [path for path in sorted(bundle.path.rglob("*")) if path.is_file()]
    kept = {path.relative_to(bundle.path).as_posix(): path for path in names}
    return {name: bundle.files.get(name) or path.read_bytes() for name, path in kept.items() if name in bundle.files or _described(name)}


def _described(name: str) -> bool:
    return name == "manifest.json" or name.startswith(f"{EVIDENCE}/")


def _runtime_files() -> dict[str, bytes]:
    paths = [path for pattern in RUNTIME for path in sorted(PACKAGE.glob(pattern))]
    return {path.relative_to(PACKAGE).as_posix(): path.read_bytes() for path in paths}


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()[:12]


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name) or "board"
