"""Prompt -> text; plan -> words and pictures."""
