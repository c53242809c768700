"""Noise that training adds: its schedule, its steps, what a network learns to predict, and how much each level counts."""
