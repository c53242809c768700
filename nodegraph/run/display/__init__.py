"""What people see of a run: the time that is left, progress in a notebook, and values as HTML."""
