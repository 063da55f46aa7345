"""What a prepared folder holds: manifest, shards, lists; whether it is whole; one in progress."""
