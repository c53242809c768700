"""Files of tensors: their headers, and the tensors in them."""
