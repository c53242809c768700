"""ComfyUI graphs in and out."""
