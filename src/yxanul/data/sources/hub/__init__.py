"""Data sets of the Hugging Face hub: streamed in order, patiently, and taken up where it broke."""
