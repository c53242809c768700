"""What the loop trains: autoencoders, CLIP, denoisers, classifiers of noisy latents."""
