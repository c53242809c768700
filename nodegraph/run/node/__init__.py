"""One node from its task to its outcome: its inputs, the call, what is stored, and what went wrong."""
