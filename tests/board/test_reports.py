"""What the emulated board cannot go along with is reported with address and value, and ends only the core that did it."""

from __future__ import annotations

import logging
import socket
import struct

import numpy as np
import pytest

pytest.importorskip("unicorn", reason="emulated cores need unicorn: pip install 'edgeattn[board]'")

from edgeattn.board.aplx import Image
from edgeattn.board.chip import IMAGE, Chip
from edgeattn.board.faults import Fault
from edgeattn.board.machine import Machine
from edgeattn.board.monitor import BAD_ARGUMENT, BAD_COMMAND, BAD_LENGTH, BAD_SUM, NO_CORE, OK
from edgeattn.board.server import COMMAND, HEADER, PORT, Server
from edgeattn.board.watchdog import Watchdog
from edgeattn.errors import InputError

SLEEP = 0xEE070F90  # mcr p15, 0, r0, c7, c0, 4
VERSION, READ, WRITE, FILL, LINK_READ, RUN, COPY_AND_RUN, TAG, ALLOCATE, ROUTE = 0, 2, 3, 5, 17, 19, 21, 26, 28, 29


def program(*words):
    """Instructions from address 0 on."""
    return Image(((0, struct.pack(f"<{len(words)}I", *words)),), 0)


def chip(watchdog=None):
    return Chip((0, 0), lambda chip, packet: None, lambda chip, message: None, watchdog=watchdog)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        # mov r0, #0x10000000; mov r1, #7; str r1, [r0, #0xff0]
        ((0xE3A00201, 0xE3A01007, 0xE5801FF0), r"communications controller has no register at 0x10000ff0 \(written with 0x00000007\)"),
        # mov r0, #0x11000000; ldr r1, [r0, #0x14c]
        ((0xE3A00411, 0xE590114C), r"timer has no register at 0x1100014c \(read\)"),
        # mov r0, #0x48000000; mov r1, #7; str r1, [r0]
        ((0xE3A00312, 0xE3A01007, 0xE5801000), r"it writes 0x48000000 \(0x00000007\), where there is neither memory nor a device"),
        # mov r0, #0x48000000; ldr r1, [r0]
        ((0xE3A00312, 0xE5901000), r"it reads 0x48000000, where"),
        # mov pc, #0x48000000
        ((0xE3A0F312,), r"it runs into 0x48000000, where"),
        # undefined instruction
        ((0xE7F000F0,), "called from .* Invalid instruction"),
        # mov r0, #0x10000000; mov r1, #0x400000; str r1, [r0]; str r1, [r0, #8]
        ((0xE3A00201, 0xE3A01501, 0xE5801000, 0xE5801008), r"it sends a point to point packet to 0x00400000"),
        # mov r0, #0x30000000; mov r1, #0x48000000; str r1, [r0, #4]; mov r1, #64; str r1, [r0, #0xc]
        ((0xE3A00203, 0xE3A01312, 0xE5801004, 0xE3A01040, 0xE580100C), r"no memory of 64 bytes at 0x48000000"),
    ],
)
def test_what_a_binary_does_wrong_is_named_with_core_address_and_value(words, message):
    with pytest.raises(Fault, match=f"core 0,0,3, at 0x.*{message}"):
        chip().start(program(*words, SLEEP), [3], 16)


def test_code_that_never_sleeps_is_ended_and_named():
    on = chip(Watchdog(0.2))
    with pytest.raises(Fault, match=r"core 0,0,3, at 0x00000000 .* it has not slept for 0.2 s"):
        on.start(program(0xEAFFFFFE), [3], 16)  # b .
    assert on.state(3) == 3, "the watchdog's state"


def test_an_image_that_no_memory_takes_starts_nothing():
    on = chip()
    with pytest.raises(Fault, match="core 0,0,3: no memory of 8 bytes at 0x00007ffc"):
        on.start(Image(((0x7FFC, bytes(8)),), 0), [3], 16)
    assert on.state(3) == 15, "idle as before"


def test_a_fault_ends_its_core_alone_and_leaves_its_registers_for_the_host():
    faults = []
    machine = Machine([(0, 0)], faults.append)
    on = machine.chips[0, 0]
    bad = program(0xE3A00312, 0xE3A01007, 0xE5801000, SLEEP)
    on.start(bad, [3], 16)
    on.start(program(SLEEP), [4], 16)
    assert [core.number for core in machine.cores()] == [4]
    assert "core 0,0,3" in str(faults[0])
    assert on.state(3) == 2, "a run-time error"
    r0, r1 = struct.unpack("<II", on.memory.read(on.vcpu(3), 8))
    assert (r0, r1) == (0x48000000, 7)
    assert on.memory.byte(on.vcpu(3, 44)) == 5, "a data abort"


@pytest.fixture
def board(new_host):
    server = Server(new_host(), [(0, 0), (1, 0)])
    yield server
    server.close()


@pytest.fixture(scope="module")
def host():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.settimeout(5)
        yield client


def datagram(body, place=(0, 0), core=0, port=0):
    return bytes(2) + HEADER.pack(0x87, 0xFF, port << 5 | core, 0xFF, place[1], place[0], 0, 0) + body


def ask(board, host, command, *arguments, data=b"", **to):
    """The return code and what follows the sequence number."""
    board.receive(datagram(COMMAND.pack(command, 7, *(*arguments, 0, 0, 0)[:3]) + data, **to), host.getsockname())
    answer = host.recv(2048)
    code, sequence = struct.unpack_from("<HH", answer, 10)
    assert sequence == 7
    return code, answer[14:]


@pytest.mark.parametrize(
    ("command", "arguments", "code", "message"),
    [
        (99, (0x1234,), BAD_COMMAND, r"command 99 (0x1234, 0x0, 0x0): is not modelled"),
        (READ, (0x50000000, 4), BAD_ARGUMENT, "no shared memory of 4 bytes at 0x50000000"),
        (READ, (0xE1000600, 4), BAD_ARGUMENT, "the router has no register at 0x00000600 (read)"),
        (READ, (0x60000000, 257), BAD_LENGTH, "257 bytes are more than a message's 256"),
        (WRITE, (0x60000000, 8), BAD_LENGTH, "8 bytes were announced, 4 came"),
        (FILL, (0x67FFFFFC, 1, 8), BAD_ARGUMENT, "8 bytes at 0x67fffffc are not whole words of shared memory"),
        (LINK_READ, (0x60000000, 4, 3), BAD_ARGUMENT, "link 3 leads to no chip"),
        (TAG, (1 << 16 | 9, 17895, 0x0100007F), BAD_ARGUMENT, "tag 9 is none of 0 to 7"),
        (ALLOCATE, (1, 0x60000040), BAD_ARGUMENT, "no block was allocated at 0x60000040"),
        (ALLOCATE, (9,), BAD_ARGUMENT, "allocation 9 is not modelled"),
        (ROUTE, (30 << 16 | 2, 0x67800000, 1000), BAD_ARGUMENT, "30 entries from 1000 on reach beyond the table's 1024"),
        (ROUTE, (7,), BAD_ARGUMENT, "router operation 7 is not modelled"),
        (RUN, (16 << 24 | 1 << 3,), BAD_ARGUMENT, "the loaded image: command 0x0 at 0x0 is unknown"),
        (COPY_AND_RUN, (5 << 3 | 0, 16, 16 << 24 | 1 << 3), BAD_SUM, "the image's checksum is 0x0"),
    ],
)
def test_a_command_that_cannot_be_done_is_answered_and_logged(board, host, caplog, command, arguments, code, message):
    assert ask(board, host, command, *arguments, data=b"abcd")[0] == code
    assert message in caplog.text
    assert f"chip 0,0: command {command} ({arguments[0]:#x}" in caplog.text


def test_an_image_cut_short_on_its_way_is_refused_by_where_it_ends(board, host, caplog):
    image = struct.pack("<8I", 2, 0, 0x20, 0x40, 4, 0, 0, 0) + bytes(0x40)
    board.machine.chips[1, 0].memory.write(IMAGE, image[:0x30])
    assert ask(board, host, COPY_AND_RUN, 0, 0x30, 16 << 24 | 1 << 3)[0] == BAD_ARGUMENT
    assert "the block at 0x0 reaches to 0x60, the file ends at 0x30" in caplog.text


@pytest.mark.parametrize(("size", "message"), [(5, "a datagram of 5 bytes"), (400, "a datagram of 400 bytes")])
def test_a_datagram_that_is_no_message_is_logged(board, host, caplog, size, message):
    board.receive(bytes(size), host.getsockname())
    assert message in caplog.text and "is no SDP message" in caplog.text


def test_a_message_too_short_for_a_command_is_answered_as_such(board, host, caplog):
    board.receive(datagram(struct.pack("<HHI", VERSION, 9, 0)), host.getsockname())
    assert struct.unpack_from("<HH", host.recv(2048), 10) == (BAD_LENGTH, 9)
    assert "a message of 8 bytes" in caplog.text


def test_messages_to_where_nothing_is_are_logged(board, host, caplog):
    board.receive(datagram(COMMAND.pack(VERSION, 1, 0, 0, 0), place=(5, 6)), host.getsockname())
    assert "a message for chip 5,6, which this board does not have" in caplog.text
    assert ask(board, host, VERSION, core=19)[0] == NO_CORE
    assert ask(board, host, VERSION, core=3, port=2)[0] == NO_CORE
    assert "core 0,0,3 runs nothing that takes a message on port 2" in caplog.text


def test_whatever_comes_is_answered_and_the_board_goes_on(board, host):
    """Commands with arguments at random, among them addresses of memory and of registers."""
    random = np.random.default_rng(0)
    logging.disable(logging.CRITICAL)
    bases, commands = (0, 0x60000000, 0xE5000000, 0xE1000000), (0, 2, 3, 5, 15, 17, 19, 20, 21, 22, 25, 26, 28, 29, 31, 32, 77)
    codes = set()
    for _ in range(2000):
        arguments = [int(base + random.integers(0, 0x20000)) for base in random.choice(bases, 3)]
        code, _ = ask(board, host, int(random.choice(commands)), *arguments, data=random.bytes(int(random.integers(0, 200))))
        codes.add(code)
    logging.disable(logging.NOTSET)
    assert codes >= {OK, BAD_LENGTH, BAD_COMMAND, BAD_ARGUMENT}
    board.machine.settle()
    assert ask(board, host, VERSION)[0] == OK


def test_a_host_that_is_no_address_is_refused():
    with pytest.raises(InputError, match="localhost is no IPv4 address"):
        Server("localhost")


def test_a_port_that_is_taken_is_named(board):
    with pytest.raises(InputError, match=f"port {PORT} of {board.host} cannot be opened .*: is another board running there"):
        Server(board.host, [(0, 0)])
    with pytest.raises(InputError, match="is it an address of this machine"):
        Server("192.0.2.1", [(0, 0)])
