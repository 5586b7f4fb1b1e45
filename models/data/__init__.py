"""Procedural data with known ground truth, for systems whose real data no package ships."""
