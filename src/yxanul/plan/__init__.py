"""What a run costs before it starts: parameters, FLOPs, memory, repetition; imports no torch."""
