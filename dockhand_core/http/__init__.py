"""The only room that speaks HTTP: one call on the wire, and the two runners of flows."""
