"""The pages of the documentation, and the scripts that generate some of them."""
