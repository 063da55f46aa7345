"""Everything that a running loop holds, how it is built, and what a stage reads."""
