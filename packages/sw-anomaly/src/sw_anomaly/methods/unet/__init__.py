"""The method ``unet``: a network learns to find synthetic defects on images of good parts."""
