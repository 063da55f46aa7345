"""Which stage, which sequence length, and whether a stage may end; nothing is written here."""
