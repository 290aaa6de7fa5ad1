"""Official files: fetched, verified, unpacked."""
