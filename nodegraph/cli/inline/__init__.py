"""Outputs shown in the terminal, if it can."""
