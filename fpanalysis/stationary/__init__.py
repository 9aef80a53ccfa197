"""Stationary laws of noisy networks."""
