"""A network as a graph with its plan, and the arithmetic that techniques share."""
