"""Plain torch modules, each usable alone: windows -> concepts -> plan -> logits."""
