"""Teaching a trained model something new: LoRA, textual inversion, ControlNet."""
