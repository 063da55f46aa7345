"""What a prepared folder holds: its manifest, shards, lists, and what one in progress keeps."""
