"""Chips and the packets between them, stepped by the time step.

A step: every timer ticks, core by core; then the packets that were sent are carried to the last one before time goes on. So a packet always arrives
in the step it was sent in, as on a board that keeps up with real time; late and dropped packets, and the cycles a core takes, are not modelled.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from .chip import CORES, Chip
from .core import Core
from .faults import Fault, raised
from .packets import Packet
from .router import LINKS, STEP
from .timers import ENABLE
from .watchdog import Watchdog

SHORTEST = 20_000  # cycles: the system's monitors poll faster for dropped packets to send again; none is dropped, so their timers stand still


class Machine:
    """places: where chips are; fail: told of each fault of a core, raises it by default.

    lost: packets by key that no entry matched on the chip of their sender, that left the board, or whose core runs nothing.
    """

    def __init__(self, places: list[tuple[int, int]], fail: Callable[[Fault], None] = raised) -> None:
        self.messages: list[tuple[Chip, bytes]] = []  # what cores sent to the host
        self.lost: Counter[int] = Counter()
        self._moving: deque[tuple[Chip, Packet, int | None]] = deque()
        watchdog = Watchdog()
        self.chips = {place: Chip(place, self._sent, self._told, fail, watchdog) for place in sorted(set(places))}
        for place, chip in self.chips.items():
            chip.router.hops = {other: hop(place, other) for other in self.chips}

    def cores(self) -> list[Core]:
        """Every core that runs."""
        return [core for chip in self.chips.values() for core in chip.cores.values() if core.running]

    def timed(self) -> bool:
        """Whether any core's timer 1 runs with a simulation's period, and asks to be heard."""
        return any(core.timers.first.load >= SHORTEST and core.timers.first.control & ENABLE and core.listens() for core in self.cores())

    def step(self) -> None:
        """One tick of every core's timer 1, and all its consequences."""
        for core in self.cores():
            if core.timers.first.load >= SHORTEST:
                core.timers.first.tick()
                core.wake()
        self.settle()

    def inject(self, place: tuple[int, int], packet: Packet) -> None:
        """A packet as if a core of the chip had sent it."""
        self._moving.append((self.chips[place], packet, None))
        self.settle()

    def settle(self) -> None:
        """Carries packets until none is on its way and every core sleeps. Each is taken before the next arrives: a core that is never late lets no
        buffer fill up."""
        while self._moving:
            for core in self._carry(*self._moving.popleft()):
                core.wake()

    def _carry(self, chip: Chip, packet: Packet, came_by: int | None) -> list[Core]:
        """Moves a packet on by one router; the cores it reached. came_by: the link it entered by."""
        route = chip.router.fixed_route if packet.kind == "fixed route" else chip.router.route(packet.key)
        if route is None:
            if came_by is None:
                self.lost[packet.key] += 1
                return []
            route = 1 << (came_by + LINKS // 2) % LINKS
        for link in range(LINKS):
            if route >> link & 1:
                x, y = chip.place[0] + STEP[link][0], chip.place[1] + STEP[link][1]
                if (x, y) in self.chips:
                    self._moving.append((self.chips[x, y], packet, (link + LINKS // 2) % LINKS))
                else:
                    self.lost[packet.key] += 1
        named = [chip.cores.get(p) for p in range(CORES) if route >> (LINKS + p) & 1]
        reached = [core for core in named if core is not None and core.running]
        if len(reached) < len(named):
            self.lost[packet.key] += len(named) - len(reached)
        for core in reached:
            core.packets.received.append(packet)
        return reached

    def _sent(self, chip: Chip, packet: Packet) -> None:
        self._moving.append((chip, packet, None))

    def _told(self, chip: Chip, message: bytes) -> None:
        self.messages.append((chip, message))


def hop(here: tuple[int, int], there: tuple[int, int]) -> int:
    """The link that leads from one chip towards another, 7 where they are the same."""
    across, up = (there[0] > here[0]) - (there[0] < here[0]), (there[1] > here[1]) - (there[1] < here[1])
    return 7 if here == there else STEP.index((across, up) if across == up else (across, 0) if across else (0, up))
