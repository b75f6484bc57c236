"""How REST requests become callers, and the view classes that act for them."""
