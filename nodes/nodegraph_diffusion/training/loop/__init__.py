"""The training loop: it trains any task, and a run that was killed continues bit for bit."""
