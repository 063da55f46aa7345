"""Documents become token shards, and shards become batches in a fixed order; no torch."""
