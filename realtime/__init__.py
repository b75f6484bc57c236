"""Sockets: the protocol, the hub, presence, typing."""
