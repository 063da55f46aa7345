"""A run folder read once: every value with the place where it stands, and what they tell."""
