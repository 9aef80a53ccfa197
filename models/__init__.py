"""Torch models and the training core."""
