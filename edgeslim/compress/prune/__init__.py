"""Pruning: which channels there are, what each is worth, how many to keep, and what the rest becomes."""
