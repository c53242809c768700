"""The losses of autoencoders, discriminators, and pictures with texts."""
