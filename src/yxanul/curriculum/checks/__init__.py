"""The checks of a gate, each from stored evidence to a result; pure."""
