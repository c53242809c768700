"""What the training nodes share: the loop with its unfinished state, prepared examples, and networks that may be changed."""
