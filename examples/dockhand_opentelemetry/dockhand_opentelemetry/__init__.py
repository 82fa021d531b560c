"""The log driver `opentelemetry` for Dockhand."""
