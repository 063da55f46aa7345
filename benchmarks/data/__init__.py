"""Preparing text, measured beside other programs that do so."""
