"""What the commands in `scripts/` share: setting a machine up, running servers and processes, and stopping them."""
