"""How a source's token stream is cut into the chunks that the order deals out; reads no tokens."""
