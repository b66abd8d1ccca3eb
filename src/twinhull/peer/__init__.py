"""What the other masters may read and ask of this one, over mutual TLS; served by the agent."""
