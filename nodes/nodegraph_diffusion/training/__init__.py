"""The parts of training that all recipes share."""
