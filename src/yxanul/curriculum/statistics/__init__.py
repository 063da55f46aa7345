"""Whether a change of scores is more than chance: intervals, noise, families of questions."""
