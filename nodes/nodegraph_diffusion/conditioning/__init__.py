"""What a denoiser is given besides the noisy latent."""
