"""yxanul pretrains small, deep, narrow language models from scratch, in gated stages."""

__version__ = "0.1.0"
