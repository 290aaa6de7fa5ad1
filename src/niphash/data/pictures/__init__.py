"""Pictures made of photos: views, and the scenes of the sample."""
