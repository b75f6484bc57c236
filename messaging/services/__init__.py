"""The domain's verbs: each is one call for a view, a consumer or a task, and runs in the caller's tenant scope."""
