"""Verbs of the public schema, a file per family."""
