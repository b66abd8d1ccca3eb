"""The one address in front of all masters: nginx, its configuration and its life. Knows nothing of registries."""
