"""One folder a target; each found through the entry-point group `edgeattn.targets`."""
