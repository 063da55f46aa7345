"""What a run scores of itself: held-out text and skills, by all ranks."""
