"""The only room that changes weights: the run, its loop, one step, its state."""
