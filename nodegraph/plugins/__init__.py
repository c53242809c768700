"""Plugins: how they are found, the hooks they implement, and the registries of what they add."""
