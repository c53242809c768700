"""The picture world: drawn scenes for training at any size, with captions, maps and boxes, and judges of painted pictures."""
