"""What is photographed: image sets, ground truth, downloads and the embedded sample."""
