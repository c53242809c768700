"""Files of tensors and configs, local or from the Hugging Face hub: the only code that reads them."""
