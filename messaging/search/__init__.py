"""What search finds: text taken apart into words, and the index's way of writing them. Pure: no database."""
