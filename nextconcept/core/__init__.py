"""Errors, the arithmetic of levels, and the configuration of a model."""
