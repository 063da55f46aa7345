"""What a run does now, what it has cost, and what it will: read from its folder as it grows."""
