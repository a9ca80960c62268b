"""How runs are made, measured and kept."""
