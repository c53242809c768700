"""Networks beside those of a model, each in a file of its own: upscalers, image encoders, T2I-Adapters, GLIGEN's layers."""
