"""Who the customers are and who may speak for them: tenants, domains, keys, tokens, provisioning, the outbox."""
