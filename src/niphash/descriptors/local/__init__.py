"""Local descriptors, and the vectors made of them."""
