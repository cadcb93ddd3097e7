"""Questions about stored spans: one module a question, all of them bounded by a project and a time window."""
