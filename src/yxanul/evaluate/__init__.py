"""Scores a model and decides nothing: bits per byte, tasks, programs in a sandbox."""
