"""Times, memory and power, with their doubts."""
