"""One master put together: settings in; an HTTP worker's application, or the agent, out. Names the concrete backends."""
