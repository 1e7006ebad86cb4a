"""Compression techniques, one a file: a module with `Settings` and `apply(model, settings, context)`."""
