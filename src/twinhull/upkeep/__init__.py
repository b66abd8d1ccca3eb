"""Work that goes on by itself in the agent. It knows no face: what may be asked of it is handed to them by node/."""
