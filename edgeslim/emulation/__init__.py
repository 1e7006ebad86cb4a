"""A device that is not here: its emulated core, an emulated machine, and estimates from both."""
