"""The socket's protocol without any I/O: parsing what clients send, writing what they receive."""
