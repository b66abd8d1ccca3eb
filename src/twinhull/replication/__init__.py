"""Master to master: the log's stream, acknowledgements, blob transfer and trust. Knows nothing of HTTP faces or rules."""
