"""Rendering of usage and plans."""
