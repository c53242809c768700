"""From a description of a checkpoint to networks with its weights."""
