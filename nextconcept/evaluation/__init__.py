"""Comparisons of models, the evaluation harness, and the environment of a result."""
