"""Data sets in other forms than COCO's: recognized by looking, read with every malformed line named, and converted."""

from sw_det.formats.convert import convert_data, prepare

__all__ = ["convert_data", "prepare"]
