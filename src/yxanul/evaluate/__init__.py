"""Scores a model and decides nothing: bits per byte, per document and per domain."""
