"""The folder a firmware team accepts: its archive, manifest, golden vectors and what travels in it."""
