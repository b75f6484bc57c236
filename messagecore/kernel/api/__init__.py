"""The REST shape: envelope, operations, paging, OpenAPI, middleware. Tenancy and the domain come from the apps."""
