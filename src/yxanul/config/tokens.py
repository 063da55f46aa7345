"""The numbers of tokens that stand for something else than text, the same in every room."""

GPT2_TOKENS = 50_257
"""Ids of the only tokenizer of this project."""
END_OF_TEXT = GPT2_TOKENS - 1
"""Stands before every document."""
IGNORED = -100
"""A target with this value is padding: it adds no loss and no gradient."""
