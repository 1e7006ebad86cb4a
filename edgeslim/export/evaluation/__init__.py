"""Every file is run in its runtime and held against the plan and against the user's network."""
