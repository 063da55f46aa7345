"""The process that starts a run again when that may help, and only then."""
