"""What moves the weights: parameter groups, AdamW, Muon, and their learning rates."""
