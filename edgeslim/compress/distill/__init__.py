"""Training of a compressed network on the answers, and what leads to them, of the network as it was given."""
