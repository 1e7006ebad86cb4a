"""What a network is for: its images, how they become inputs, and how good its answers are."""
