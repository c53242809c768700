"""A node-graph engine for latent diffusion."""
