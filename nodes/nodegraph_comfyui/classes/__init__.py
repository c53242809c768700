"""What is known about the classes of ComfyUI's nodes, one file per noun."""
