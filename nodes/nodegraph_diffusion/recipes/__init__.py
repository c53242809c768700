"""How models are trained, one recipe for each."""
