"""Its configuration is broken, as they are."""

raise ValueError("CACHE_HOST is not set")
