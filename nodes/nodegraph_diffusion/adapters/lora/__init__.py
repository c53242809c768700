"""Applying LoRA files and related formats, which change the weights of a network. `checkpoint.describe` reads them."""
