"""Training the embedded model: its world, its networks, its judges."""
