"""The processes of a run: where they are, what they agree on, what they may spend."""
