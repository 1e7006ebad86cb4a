"""Weights that get new values from images: in closed form by least squares, or by training."""
