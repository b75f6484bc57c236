"""The socket's frames for those who cannot have a socket: event streams, long polling, commands by POST."""
