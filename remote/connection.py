"""One SSH connection to a board: keys only, host keys checked, and every way it can fail in one sentence."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shlex
import tarfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError, MissingError, first_line

FOLDER = ".cache/edgeattn/remote"  # under the user's home on the board; everything that is put there
SCRIPTS = Path(__file__).with_name("on_board")
SECONDS = 20.0  # to connect and log in
SILENCE = (5, 3)  # a keepalive every 5 s; after 3 unanswered ones the connection is lost
Say = Callable[[str], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Address:
    """user, host, port; None: what ~/.ssh/config or the system says."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """`user@board`, `board`, `user@board:2222` or `user@[::1]:2222`; InputError for anything else, a password above all."""
        match = re.fullmatch(r"(?:(?P<user>[^@:\s]+)@)?(?P<host>\[[0-9a-fA-F:]+\]|[^@:\s\[\]-][^@:\s\[\]]*)(?::(?P<port>\d{1,5}))?", text)
        if match is None:
            raise InputError(f"--host {text!r} is not of the form user@board or user@board:port; passwords are not taken, only keys.")
        port = match["port"]
        return cls(match["host"].strip("[]"), match["user"], int(port) if port else None)

    def __str__(self) -> str:
        return (f"{self.user}@" if self.user else "") + self.host + (f":{self.port}" if self.port else "")


class Board:
    """What the other end can be asked to do. Raises MissingError with the board's name for anything that fails there."""

    def __init__(self, address: Address, connection: Any, say: Say) -> None:
        self.address, self._connection, self.say = address, connection, say

    async def python(self) -> tuple[int, ...]:
        """The version of the board's python3."""
        code, out, _ = await self.run(["python3", "-c", "import sys; print(*sys.version_info[:3])"])
        if code != 0:
            raise MissingError(f"{self.address} has no python3: install it there (sudo apt install python3).")
        return tuple(int(part) for part in out.split())

    async def send(self, files: Mapping[str, bytes], folder: str) -> None:
        """Puts files into a folder of the board, all of them or none; a folder of that name that is there already is taken as it is."""
        if (await self.run(["test", "-d", folder]))[0] == 0:
            return
        self.say(f"copying {sum(map(len, files.values())) / 1e6:.1f} MB to {self.address}")
        code, _, said = await self.script("receive", [folder, str(len(files))], _archive(files))
        if code != 0:
            raise MissingError(f"{self.address}: {_last(said)}: nothing half-written was left there; free some space, or try again.")

    async def script(self, name: str, arguments: Sequence[str], data: bytes = b"") -> tuple[int, str, str]:
        """Runs one of our own scripts with the board's Python."""
        return await self.run(["python3", "-c", (SCRIPTS / f"{name}.py").read_text(), *arguments], data)

    async def answer(self, words: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The JSON object that a command prints on the board; its lines on standard error are shown as they come."""
        prefix = ["env", *(f"{name}={value}" for name, value in environment.items())] if environment else []
        code, out, said = await self.run([*prefix, *words], show=True)
        lines = [line for line in out.splitlines() if line.startswith("{")]
        try:
            found: dict[str, Any] = json.loads(lines[-1])
        except (IndexError, ValueError):
            raise MissingError(f"{self.address} gave no result (exit code {code}): {_last(said)}") from None
        if "error" in found:
            raise MissingError(f"{self.address}: {found['error']}")
        return found

    async def remove(self) -> None:
        """Takes away everything that was ever put there."""
        await self.run(["rm", "-rf", FOLDER])

    async def run(self, words: Sequence[str], data: bytes = b"", show: bool = False) -> tuple[int, str, str]:
        """(exit code, standard output, standard error) of a command."""
        process = await self._connection.create_process(shlex.join(words), encoding=None)
        try:
            said, out, _ = await asyncio.gather(self._lines(process.stderr, show), process.stdout.read(), _feed(process, data))
            await process.wait()
        finally:
            process.close()
        if process.exit_status is None or process.exit_status < 0:
            raise ConnectionResetError("the command was cut off")
        return int(process.exit_status), out.decode("utf-8", "replace"), "\n".join(said)

    async def _lines(self, stream: Any, show: bool) -> list[str]:
        lines = []
        async for line in stream:
            lines.append(line.decode("utf-8", "replace").rstrip())
            if show:
                self.say(f"{self.address}: {lines[-1]}")
        return lines


def on_board(address: Address, work: Callable[[Board], Awaitable[Result]], say: Say) -> Result:
    """Connects, does the work, and turns every failure of the connection into one sentence."""
    try:
        import asyncssh
    except ImportError:
        raise MissingError("running on a board needs asyncssh: pip install 'edgeattn[remote]'.") from None

    async def connected() -> Result:
        options: dict[str, Any] = {
            "password": None,
            "preferred_auth": "publickey",
            "keepalive_interval": SILENCE[0],
            "keepalive_count_max": SILENCE[1],
        }
        options |= {key: value for key, value in (("username", address.user), ("port", address.port)) if value is not None}
        say(f"connecting to {address}")
        async with asyncssh.connect(address.host, connect_timeout=SECONDS, login_timeout=SECONDS, **options) as connection:
            return await work(Board(address, connection, say))

    try:
        return asyncio.run(connected())
    except asyncssh.HostKeyNotVerifiable as error:
        known = f"its host key is not one you know ({first_line(error)})"
        raise MissingError(f"{address}: {known}: connect once with ssh and compare the fingerprint; if it changed, find out why first.") from None
    except asyncssh.PermissionDenied:
        raise MissingError(f"{address} takes none of your keys: put one there with ssh-copy-id, or start an ssh-agent that holds it.") from None
    except (asyncssh.ConnectionLost, asyncssh.ChannelOpenError, asyncssh.DisconnectError, ConnectionResetError, BrokenPipeError) as error:
        raise MissingError(f"the connection to {address} was lost ({first_line(error)}): nothing half-written was kept; run it again.") from None
    except (OSError, asyncio.TimeoutError) as error:
        reason = first_line(error) if str(error) else f"no answer within {SECONDS:.0f} s"
        raise MissingError(f"{address} cannot be reached ({reason}): check its name, that it is on, and that sshd runs there.") from None


async def _feed(process: Any, data: bytes) -> None:
    """Writes to the command's input; a command that ended early has said why on its standard error."""
    try:
        process.stdin.write(data)
        await process.stdin.drain()
        process.stdin.write_eof()
    except (BrokenPipeError, ConnectionResetError):
        return


def _archive(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it gave no reason"
