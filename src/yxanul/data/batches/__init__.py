"""From prepared sources to the batch of a step, and the documents that are held out."""
