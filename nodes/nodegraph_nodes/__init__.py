"""The node pack: thin adapters that hand `nodegraph_diffusion` to the engine."""
