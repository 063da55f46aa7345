"""From sources to a prepared folder: read, treated, split, written; killed and gone on."""
