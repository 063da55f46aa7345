"""A trained model as others read it, and the proof that it says the same there."""
