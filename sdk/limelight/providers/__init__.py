"""One module a library: request -> fields, response -> fields; `patch.py` finds and wraps what they name."""
