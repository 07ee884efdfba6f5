"""A page on this machine that shows a plan being made, changed and followed."""
