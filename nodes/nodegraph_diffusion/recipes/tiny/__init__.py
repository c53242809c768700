"""Training of the embedded model: its toy world, its networks, and the judges that evaluate it."""
