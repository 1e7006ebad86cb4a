"""Kinds of accelerators: what a build does for each, one file or folder a kind."""
