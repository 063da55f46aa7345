"""What a run is: typed, validated settings; imports no torch."""
