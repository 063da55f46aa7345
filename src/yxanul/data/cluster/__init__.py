"""Texts that are treated by many tasks, on one machine or a cluster, and joined afterwards."""
