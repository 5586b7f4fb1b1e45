"""`python -m edgeattn` is the command `edgeattn`."""

from .cli import main

main(prog_name="edgeattn")
