"""The tests of edgeslim; they mirror its rooms."""
