"""What people do inside a tenant: users, conversations, messages, notifications."""
