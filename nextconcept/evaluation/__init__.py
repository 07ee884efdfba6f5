"""Comparisons of models, the evaluation harness, and where figures come from."""
