"""Where nodes run, and how runs that need the same node share it."""
