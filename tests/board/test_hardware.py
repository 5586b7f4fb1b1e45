"""The emulated chip by itself: what its parts do."""

from __future__ import annotations

import struct

import pytest

pytest.importorskip("unicorn", reason="emulated cores need unicorn: pip install 'edgeattn[board]'")

from edgeattn.board.aplx import Image, read_aplx
from edgeattn.board.chip import Chip
from edgeattn.board.heap import BLOCK, Heap
from edgeattn.board.interrupts import InterruptController
from edgeattn.board.machine import Machine
from edgeattn.board.memory import SharedMemory
from edgeattn.board.packets import CommunicationsController, Packet
from edgeattn.board.router import Entry
from edgeattn.board.timers import Timer
from edgeattn.errors import InputError

SLEEP = 0xEE070F90  # mcr p15, 0, r0, c7, c0, 4


def chip():
    return Chip((0, 0), lambda chip, packet: None, lambda chip, message: None)


def program(*words):
    """Instructions from address 0 on."""
    return Image(((0, struct.pack(f"<{len(words)}I", *words)),), 0)


def test_an_aplx_is_copies_and_fills():
    table = struct.pack("<12I", 2, 0x400, 0x30, 4, 3, 0x400000, 8, 7, 4, 0x10, 0, 0)
    image = read_aplx(table + b"code")
    assert image.blocks == ((0x400, b"code"), (0x400000, struct.pack("<II", 7, 7)))
    assert image.entry == 0x10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((2, 0, 0x40, 100), "reaches to 0xa4"),
        ((9, 0, 0, 0), "command 0x9 at 0x0 is unknown"),
        ((3, 0, 4, 0), "no start address"),
        ((3, 0, 0x10000000, 0), "the fill at 0x0 is of 0x10000000 bytes"),
        ((1, 0, 0x60000000, 4), "command 0x1 at 0x0 copies from an absolute address"),
    ],
)
def test_a_bad_aplx_is_refused_by_what_is_wrong(words, message):
    with pytest.raises(InputError, match=message):
        read_aplx(struct.pack("<4I", *words), "bad.aplx")


def test_a_core_sleeps_until_its_timer_and_goes_on_behind():
    begin = {0x00: (0xEA00000E,), 0x18: (0xEA000018,)}  # reset: b 0x40; interrupt: b 0x80
    main = (
        *(0xE3A00411, 0xE3A010E2, 0xE5801008),  # mov r0, #0x11000000; mov r1, #0xe2; str r1, [r0, #8]: timer 1 on, with its interrupt
        *(0xE3A0241F, 0xE3A01010, 0xE5821010),  # mov r2, #0x1f000000; mov r1, #0x10; str r1, [r2, #0x10]: line 4 enabled
        *(0xE3A05000, 0xE321F01F),  # mov r5, #0; msr cpsr_c, #0x1f: interrupts on
        SLEEP,
        *(0xE2855001, 0xE3A06501, 0xE5865000, 0xEAFFFFFA),  # r5 += 1; str r5, [0x400000]; b back to sleep
    )
    handler = (0xE580100C, 0xE25EF004)  # str r1, [r0, #0xc]: timer acknowledged; subs pc, lr, #4
    blocks = {**begin, 0x40: main, 0x80: handler}
    on = chip()
    on.start(Image(tuple((address, struct.pack(f"<{len(code)}I", *code)) for address, code in blocks.items()), 0), [2], 16)
    core = on.cores[2]
    assert core.read(0x400000, 4) == bytes(4)
    for wakings in (1, 2, 3):
        core.timers.first.tick()
        core.wake()
        assert core.read(0x400000, 4) == struct.pack("<I", wakings)


def test_the_heap_gives_back_what_it_took():
    memory = SharedMemory()
    heap = Heap.create(memory, 0x60000000, 0x60001000, 0x67800000)
    whole = heap.largest()
    first, second, third = (heap.allocate(size, 16, tag) for size, tag in ((100, 1), (60, 0), (40, 2)))
    assert second == first + 100 + BLOCK
    assert heap.allocate(10, 16, 1) == 0, "its tag is taken"
    heap.free(second)
    assert heap.allocate(60, 17) == second, "the gap is used again"
    assert heap.free_application(16) == 2
    heap.free(second)
    assert heap.largest() == whole
    assert third


def test_a_heap_that_is_full_says_so():
    heap = Heap.create(SharedMemory(), 0x60000000, 0x60000100, 0x67800000)
    assert heap.allocate(1000, 16) == 0
    assert heap.allocate(heap.largest(), 16)
    assert heap.largest() == 0


def test_the_first_enabled_slot_gives_the_vector():
    lines = 1 << 4 | 1 << 12
    controller = InterruptController(lambda: lines)
    for slot, line in ((0, 12), (1, 4)):
        controller.write(0x100 + 4 * slot, 0x1000 + line)
        controller.write(0x200 + 4 * slot, 0x20 | line)
    assert controller.irq() == 0
    controller.write(0x10, lines)
    assert controller.read(0x30) == 0x100C
    controller.write(0x14, 1 << 12)
    assert controller.read(0x30) == 0x1004
    controller.write(0x0C, 1 << 4)
    assert (controller.irq(), controller.fiq()) == (0, 1 << 4)


def test_a_polled_timer_runs_down_and_starts_anew_with_a_tick():
    timer = Timer()
    timer.write(0x00, 200_000)
    timer.write(0x08, 0xE2)
    counts = [timer.read(0x04) for _ in range(5000)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0
    timer.tick()
    assert timer.up()
    assert timer.read(0x04) > 199_000


def test_a_packet_keeps_its_payload_and_is_taken_by_reading_its_key():
    sent = []
    controller = CommunicationsController(sent.append)
    controller.write(0x04, 5)
    controller.write(0x08, 0x100)
    controller.write(0x08, 0x101)
    assert sent == [Packet(0x100, 5), Packet(0x101)]
    controller.received.extend(sent)
    assert controller.read(0x0C) & 0x00020000
    assert (controller.read(0x10), controller.read(0x14), controller.read(0x14)) == (5, 0x100, 0x101)
    assert not controller.lines() >> 24 & 1


class Listener:
    """Stands in for a core that only collects; waiting: the most packets that it found on waking."""

    running = True

    def __init__(self):
        self.waiting = self.taken = 0
        self.packets = CommunicationsController(lambda packet: None)

    def wake(self):
        self.waiting = max(self.waiting, len(self.packets.received) - self.taken)
        self.taken = len(self.packets.received)

    def keys(self):
        return [packet.key for packet in self.packets.received]


def test_a_packet_goes_straight_on_where_nothing_matches_and_is_lost_where_it_started():
    machine = Machine([(0, 0), (1, 0), (2, 0)])
    far = machine.chips[2, 0].cores[4] = Listener()
    machine.chips[0, 0].router.set_entry(0, Entry(0x40, 0xFFFFFFF0, 1))
    machine.chips[2, 0].router.set_entry(0, Entry(0x40, 0xFFFFFFF0, 1 << 10))
    machine.inject((0, 0), Packet(0x43))
    assert far.keys() == [0x43]
    machine.inject((0, 0), Packet(0x50))
    machine.inject((1, 0), Packet(0x43))
    assert machine.lost == {0x50: 1, 0x43: 1}


def test_a_core_takes_each_packet_before_the_next_so_that_no_buffer_fills_up():
    machine = Machine([(0, 0)])
    near = machine.chips[0, 0].cores[3] = Listener()
    machine.chips[0, 0].router.set_entry(0, Entry(0, 0, 1 << 9))
    for key in range(300):
        machine.chips[0, 0].send(2, Packet(key))
    machine.settle()
    assert near.keys() == list(range(300))
    assert near.waiting == 1


def test_the_first_matching_entry_decides():
    machine = Machine([(0, 0)])
    cores = machine.chips[0, 0].cores
    cores[2], cores[3] = Listener(), Listener()
    machine.chips[0, 0].router.set_entry(0, Entry(0x10, 0xF0, 1 << 8))
    machine.chips[0, 0].router.set_entry(1, Entry(0x00, 0x00, 1 << 9))
    machine.inject((0, 0), Packet(0x13))
    machine.inject((0, 0), Packet(0x23))
    assert (cores[2].keys(), cores[3].keys()) == ([0x13], [0x23])
