"""The names of tensors, modules, files and settings in each layout of checkpoint."""
