"""The recipe of the 128x128 model: its networks, how they are trained on the picture world, and how the result is measured."""
