"""What a node is told: frozen settings, read from harbor.yml, the environment and the command line in one place."""
