"""The HTTP client: exchanges with a registry, transports, and the runners of flows."""
