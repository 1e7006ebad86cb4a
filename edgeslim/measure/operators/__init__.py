"""Times of single operators: tiny models, and the process that times them in a runtime."""
