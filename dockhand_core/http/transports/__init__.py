"""The libraries that carry requests, behind the interface of httpx."""
