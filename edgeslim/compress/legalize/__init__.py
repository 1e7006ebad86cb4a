"""Rewrites that turn what a device refuses into what it runs, and the rules that say what it refuses."""
