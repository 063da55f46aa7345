"""A run folder told as one HTML page that needs no network, no torch and no other file."""
