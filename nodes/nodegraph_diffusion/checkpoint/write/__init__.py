"""Writing models."""
