"""Training that every recipe shares."""
