"""Measurements: `python -m bench` compares kobuild with what else is on PATH, side by side, in one run."""
