"""What every room may use: errors, ids, wire JSON, the protocol catalogue, the API envelope. No domain words."""
