"""What the runs say: the grids that were asked for, phase diagrams counted, claims
judged."""
