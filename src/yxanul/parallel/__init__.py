"""Processes and engines: who am I among the ranks, and in which order a model is wrapped."""
