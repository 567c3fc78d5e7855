"""The architectures, a file each; importing it registers them with timm."""
