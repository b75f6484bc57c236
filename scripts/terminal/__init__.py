"""The parts of `scripts/chat`: a client of the socket that keeps its place, and the two faces that it shows."""
