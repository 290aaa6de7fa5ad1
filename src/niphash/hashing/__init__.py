"""Descriptor to bits: RBM stacks, their fine-tuning, and closed-form peers."""
