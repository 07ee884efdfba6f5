"""Logits -> loss -> weights, with Lightning."""
