"""What this machine can do: every `auto` becomes a choice, by rule."""
