"""The schema of both databases, as numbered forward-only migrations; imports neither collector nor SDK."""
