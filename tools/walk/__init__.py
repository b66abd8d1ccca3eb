"""Makes the requests that were recorded with a real Harbor again, in order, and says where the answers differ."""
