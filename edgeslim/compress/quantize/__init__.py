"""Quantization: INT8 numerics decided once for all runtimes."""
