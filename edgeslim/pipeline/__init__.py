"""The story of a build, from preflight to the staged artifact."""
