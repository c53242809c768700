"""The names of modules in each layout of checkpoint."""
