"""What runs on the board: build, verify, bench, doctor. Standard library, numpy and the board's own tensorrt; Python 3.6 and newer."""
