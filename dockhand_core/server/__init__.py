"""Parts that the servers of this project share."""
