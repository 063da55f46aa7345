"""What a stage's end does: evidence, the verdict, and the attempt that follows from it."""
