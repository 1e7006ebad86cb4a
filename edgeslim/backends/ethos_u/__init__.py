"""Arm Ethos-U: INT8 compiled by Vela, placed, simulated and held against reference kernels."""
