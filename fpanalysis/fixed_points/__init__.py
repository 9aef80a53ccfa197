"""Deterministic fixed points."""
