"""Alert rules: what they say, how their state moves, who is told."""
