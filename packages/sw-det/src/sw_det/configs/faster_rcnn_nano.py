"""Faster R-CNN, for boxes without masks, small enough to be trained from nothing on two CPU cores. Not published."""

_base_ = ["_base_/models/mask_rcnn_nano.py", "_base_/nano_boxes.py"]

model = dict(
    type="FasterRCNN",
    data_preprocessor=dict(pad_mask=False),
    roi_head=dict(mask_roi_extractor=None, mask_head=None),
)
