"""What a device is, read strictly from its profile: facts, limits, and the machine that runs this."""
