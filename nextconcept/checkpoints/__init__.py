"""Runs on disk and exported models."""
