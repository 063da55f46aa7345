"""What keeps a run from harm: a hang, a bad loss, and word of how it ended."""
