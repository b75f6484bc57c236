"""Ids in paths. An external id may hold any character but a control one, a slash included."""

SLASH = "\x1f"
"""Stands for a percent-encoded slash between the ASGI handler, which still sees the raw path, and the converter.
No id can hold it: control characters are not allowed in ids."""


class IdConverter:
    """One path segment: a server id or an external id, 1-255 characters without control characters."""

    regex = r"[^/\x00-\x1e\x7f]{1,255}"

    def to_python(self, value: str) -> str:
        return value.replace(SLASH, "/")

    def to_url(self, value: str) -> str:
        return value
