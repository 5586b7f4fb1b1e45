"""The board's Ethernet side: SDP over UDP on port 17893, as SpiNNTools expects it from a board at an IP address.

A datagram: two bytes of padding, then the SDP header (flags, tag, destination port and core, source port and core, destination and source chip)
and, for commands, number, sequence and three arguments. Commands for core 0, or for a core without an application, are the monitor's; the others
go to the core's own code.

Time: while an application runs, the machine is stepped as fast as it goes, and the host is listened to between steps.
"""

from __future__ import annotations

import errno
import logging
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from ..errors import InputError
from .aplx import origins
from .chip import CORES, Chip
from .faults import Fault
from .machine import Machine
from .monitor import BAD_LENGTH, LARGEST, NO_CORE, Monitor, Request, board_places
from .state import restore, save

LOG = logging.getLogger(__name__)
PORT, ETHERNET = 17893, 0xFF
TRANSIENT = range(8, 200)  # tags that carry answers back to whoever asked
HEADER, COMMAND = struct.Struct("<BBBBBBBB"), struct.Struct("<HHIII")  # SDP; number, sequence and three arguments


class Server:
    """A version 5 board at `host`, or one with chips at `places`; state: a file that `save` wrote, to go on from."""

    def __init__(self, host: str = "127.0.0.1", places: list[tuple[int, int]] | None = None, state: Path | None = None) -> None:
        try:
            address = tuple(IPv4Address(host).packed)
        except ValueError:
            raise InputError(f"{host} is no IPv4 address, by which SpiNNaker boards are known.") from None
        self.host = host
        self.machine, known = restore(state, self._failed) if state else (Machine(places or board_places(), self._failed), {})
        self.monitor = Monitor(self.machine, address)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        try:
            self.socket.bind((host, PORT))
        except OSError as error:
            self.socket.close()
            why = "is another board running there?" if error.errno == errno.EADDRINUSE else "is it an address of this machine?"
            raise InputError(f"port {PORT} of {host} cannot be opened ({error.strerror}): {why}") from None
        self.steps, self.busy = 0, 0.0
        self.monitor.tags = {tag: (address, port, strip) for tag, address, port, strip in known.get("tags", [])}
        self._transient: dict[int, tuple[str, int]] = {tag: (address, port) for tag, address, port in known.get("transient", [])}
        self._next = known.get("next", 0)
        self._stopped = False

    def serve(self, seconds: float | None = None) -> None:
        """Answers until interrupted, or for some seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self._stopped and (end is None or time.monotonic() < end):
            running = self.machine.timed()
            ready, _, _ = select.select([self.socket], [], [], 0 if running else 0.2)
            while ready:
                data, sender = self.socket.recvfrom(2048)
                self._guarded(data, sender)
                ready, _, _ = select.select([self.socket], [], [], 0)
            if running:
                started = time.perf_counter()
                self.machine.step()
                self.steps, self.busy = self.steps + 1, self.busy + time.perf_counter() - started
                self._forward()

    def stop(self) -> None:
        """Ends `serve`, from another thread."""
        self._stopped = True

    def save(self, path: Path) -> None:
        """Keeps the board and whom it answers; a host that is connected does not notice that another `Server` goes on from there."""
        tags = [[tag, *entry] for tag, entry in self.monitor.tags.items()]
        save(self.machine, path, {"tags": tags, "transient": [[tag, *to] for tag, to in self._transient.items()], "next": self._next})

    def close(self) -> None:
        self.socket.close()

    def _failed(self, fault: Fault) -> None:
        """A core's fault ends that core, as a run-time error would on a board; the others go on."""
        LOG.error("%s", fault)

    def _guarded(self, data: bytes, sender: tuple[str, int]) -> None:
        """Takes a datagram, and all that follows from it."""
        try:
            self.receive(data, sender)
        except Fault as error:
            LOG.error("a datagram of %d bytes from %s:%d: %s", len(data), *sender, error)
        self.machine.settle()
        self._forward()

    def receive(self, data: bytes, sender: tuple[str, int]) -> None:
        """One datagram of the host."""
        if not 2 + HEADER.size <= len(data) <= 2 + HEADER.size + COMMAND.size + LARGEST:
            LOG.error("a datagram of %d bytes from %s:%d is no SDP message", len(data), *sender)
            return
        flags, tag, to, source, y, x, source_y, source_x = HEADER.unpack_from(data, 2)
        place = (0, 0) if (x, y) == (255, 255) else (x, y)
        chip = self.machine.chips.get(place)
        if chip is None:
            LOG.error("a message for chip %d,%d, which this board does not have", x, y)
            return
        core, port = to & 31, to >> 5
        if core and core in chip.cores and chip.cores[core].running:
            tag = self._transient_tag(sender) if flags & 0x80 else tag
            chip.deliver(core, HEADER.pack(flags, tag, to, source, place[1], place[0], source_y, source_x) + data[10:])
            return
        body = data[2 + HEADER.size :]
        _, sequence = struct.unpack_from("<HH", body.ljust(4, b"\0"))
        if port or core >= CORES:
            LOG.error("core %s,%d runs nothing that takes a message on port %d", chip.name, core, port)
            code, answer = NO_CORE, b""
        elif len(body) < COMMAND.size:
            LOG.error("chip %s: a message of %d bytes from %s:%d is no command, which has %d and more", chip.name, len(body), *sender, COMMAND.size)
            code, answer = BAD_LENGTH, b""
        else:
            command, sequence, first, second, third = COMMAND.unpack_from(body)
            code, answer = self.monitor.answer(Request(chip, command, (first, second, third), body[COMMAND.size :], sender))
        if flags & 0x80:
            header = HEADER.pack(0x07, ETHERNET, source, to, source_y, source_x, place[1], place[0])
            self._send(bytes(2) + header + struct.pack("<HH", code, sequence) + answer, sender)

    def _transient_tag(self, sender: tuple[str, int]) -> int:
        for tag, known in self._transient.items():
            if known == sender:
                return tag
        tag = TRANSIENT[self._next % len(TRANSIENT)]
        self._next += 1
        self._transient[tag] = sender
        return tag

    def _forward(self) -> None:
        """Sends on what cores have to say: to the host by tag, or to another core."""
        while self.machine.messages:
            chip, message = self.machine.messages.pop(0)
            if len(message) < HEADER.size:
                LOG.error("chip %s sent %d bytes, which are no SDP message", chip.name, len(message))
                continue
            _, tag, to, _, y, x, _, _ = HEADER.unpack_from(message)
            if to != ETHERNET:
                self._to_core(chip, (x, y), to, message)
            elif tag in self.monitor.tags:
                address, port, strip = self.monitor.tags[tag]
                self._send(message[HEADER.size :] if strip else bytes(2) + message, (address, port))
            elif tag in self._transient:
                self._send(bytes(2) + message, self._transient[tag])
            else:
                LOG.error("chip %s sent a message to tag %d, which is not set", chip.name, tag)

    def _send(self, data: bytes, to: tuple[str, int]) -> None:
        try:
            self.socket.sendto(data, to)
        except OSError as error:
            LOG.error("nothing can be sent to %s:%d: %s", *to, error.strerror)

    def _to_core(self, sender: Chip, place: tuple[int, int], to: int, message: bytes) -> None:
        target = self.machine.chips.get(place)
        try:
            delivered = target is not None and target.deliver(to & 31, message)
        except Fault as error:
            LOG.error("%s", error)
        else:
            if not delivered:
                LOG.error("chip %s sent a message to core %d,%d,%d, where nothing runs", sender.name, *place, to & 31)


def run(host: str, state: Path | None, say: Callable[[str], None]) -> None:
    """`edgeattn board`: serves until interrupted or terminated, and says where, by what binaries, and how fast it ran.

    state: a file to go on from if it is there, and to keep the board in at the end.
    """
    logging.basicConfig(format="%(message)s")
    if state and not state.parent.is_dir():
        raise InputError(f"{state.parent} is no folder: the board's state could not be kept there.")
    packages = origins()
    server = Server(host, state=state if state and state.exists() else None)

    def end(number: int, frame: object) -> None:
        """After the step that runs, so that a whole state is kept; asked again, at once."""
        signal.signal(number, signal.default_int_handler)
        server.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    try:
        say(f"SpiNNaker board of {len(server.machine.chips)} chips at {host}, port {PORT}")
        say(f"to use it, set machine_name = {host} and version = 5 under [Machine] in .spynnaker.cfg")
        for package in packages:
            say(f"binaries of {package}")
        server.serve()
        if lost := server.machine.lost:
            say(f"{lost.total()} packets were lost, most of key {lost.most_common(1)[0][0]:#010x}")
        if server.busy:
            say(f"{server.steps} steps in {server.busy:.1f} s: {server.steps / 1000 / server.busy:.2f} of real time at steps of 1 ms")
        if state:
            server.save(state)
            say(f"the board's state is in {state}")
    finally:
        server.close()
