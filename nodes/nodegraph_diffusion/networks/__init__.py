"""The networks, one file each, with modules named as the published checkpoints name them."""
