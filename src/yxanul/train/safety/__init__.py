"""What keeps a run from harm: a hang, a bad loss, a stop, and how it ended."""
