"""Pictures with captions as examples of a denoiser: sizes, resizing, and encodings that are kept on disk."""
