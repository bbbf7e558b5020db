"""The decode loop: from a request to tokens."""
