"""Django REST framework and the OpenAPI document."""

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["messagecore.kernel.api.envelope.EnvelopeRenderer"],
    "DEFAULT_PARSER_CLASSES": ["messagecore.kernel.api.envelope.JsonParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "messagecore.kernel.api.envelope.AlwaysJson",
    "DEFAULT_SCHEMA_CLASS": "messagecore.kernel.api.openapi.CatalogueSchema",
    "EXCEPTION_HANDLER": "messagecore.kernel.api.envelope.render_exception",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "MessageCore",
    "DESCRIPTION": "Chat as a service that any product embeds: users, conversations, messages, usage. "
    "The socket beside it is described by [AsyncAPI](/api/asyncapi/).",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.1",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    # In the order in which an integrator meets them.
    "TAGS": [
        {"name": "Users", "description": "The end users of the integrator's product, and their tokens."},
        {"name": "Conversations", "description": "Where users talk, and who is in there."},
        {"name": "Messages", "description": "What is said, and what is done to it."},
        {"name": "Moderation", "description": "Bans, filters, the review queue, and reports of messages."},
        {"name": "Realtime", "description": "The socket's frames for those who cannot have a socket."},
        {"name": "Events", "description": "The durable log: a conversation's, and the feed of all of them."},
        {"name": "Files", "description": "What messages link to."},
        {"name": "Settings", "description": "What the tenant chose for all of its conversations."},
        {"name": "Imports", "description": "Bringing users, conversations and messages from elsewhere, in bulk."},
        {"name": "Usage", "description": "What the tenant used, set against its plan."},
        {"name": "Platform", "description": "Tenants, plans and figures, for platform staff with a platform token."},
    ],
    "PREPROCESSING_HOOKS": ["messagecore.kernel.api.openapi.only_api_routes"],
    "POSTPROCESSING_HOOKS": ["messagecore.kernel.api.openapi.add_catalogue"],
    # The page's scripts come from this server, not from a CDN.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
}

# A body larger than this is refused with 413 before it is parsed. Content may be 64 KiB, a batch of
# 100 users with metadata about ten times that.
MAX_BODY_BYTES = 1024 * 1024
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES

# Bodies of these routes (POST) may be larger, and are read raw by their handlers.
MAX_IMPORT_CHUNK_BYTES = 8 * 1024 * 1024
LARGER_BODIES = {r"/api/v1/imports/[^/]+/chunks": MAX_IMPORT_CHUNK_BYTES}
