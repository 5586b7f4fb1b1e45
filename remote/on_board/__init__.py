"""Scripts that a board's own Python runs, sent over SSH: standard library, Python 3.6 and newer, no import of one another."""
