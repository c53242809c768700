"""Training recipes, one for each model."""
