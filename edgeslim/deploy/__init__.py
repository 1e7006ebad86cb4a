"""Bring an agent and a runtime to a machine, and run a model there."""
