"""SAM 3 itself: checkpoints, preprocessing, the two heads over one backbone. The only package that imports torch."""
