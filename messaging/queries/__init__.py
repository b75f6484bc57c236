"""Named SQL and reads: one typed function each, saying what it locks, what it costs and what it would be in the ORM."""
