"""Where the bytes live: one protocol for blobs and uploads, and the backends behind it."""
