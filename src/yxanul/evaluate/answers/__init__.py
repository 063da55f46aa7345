"""What a model answers: likelihoods of given texts, and texts of its own, in batches."""
