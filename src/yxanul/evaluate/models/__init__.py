"""The models that can be scored: a run of ours, a Hugging Face folder, a hub id."""
