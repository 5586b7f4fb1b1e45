"""A SpiNNaker board in software: the very binaries that sPyNNaker's packages carry, run on emulated ARM cores.

aplx            what an .aplx puts where
core            one ARM968 with its memories, timers, interrupt, communications and DMA controllers
chip            cores around shared SDRAM, system RAM, system controller and multicast router
machine         chips and the packets between them, stepped by the time step
state           a machine in a file, and back
monitor, server what the host is answered, and the board's Ethernet side
specification   what sPyNNaker generates for each core, taken from its virtual board and loaded
oracle          runtime/emulator.py against the binaries, bit for bit
"""
