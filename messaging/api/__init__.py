"""REST views of messaging: parse, one call into a service, render."""
