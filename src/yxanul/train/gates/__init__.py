"""What is done where a stage begins and ends: scores, samples, evidence, the verdict."""
