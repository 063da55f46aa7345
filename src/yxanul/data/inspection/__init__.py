"""What a person looks at: prepared data, a run or a checkpoint, and whether it is whole."""
