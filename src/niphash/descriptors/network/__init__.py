"""Networks up to a layer, and the poolings of their maps."""
