"""The domain's verbs. Each function is one call for a view, a consumer or a task; it runs in the caller's tenant scope."""
