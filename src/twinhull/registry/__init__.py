"""The OCI data plane: what answers under /v2/, after the OCI distribution specification 1.1."""
