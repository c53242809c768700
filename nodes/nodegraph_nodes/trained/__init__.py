"""Weights that nodes trained, as values: how they are stored, and how other nodes use them like files."""
