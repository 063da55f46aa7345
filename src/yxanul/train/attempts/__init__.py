"""Where a run goes on from: at a start, after a verdict, after a divergence."""
