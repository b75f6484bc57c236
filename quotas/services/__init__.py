"""Verbs of plans and metering."""
