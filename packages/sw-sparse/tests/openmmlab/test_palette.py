from sw_sparse.openmmlab.palette import class_colours


def test_all_classes_have_different_colours_that_more_classes_do_not_change():
    assert len(set(class_colours(150))) == 150
    assert class_colours(150)[:3] == class_colours(3)
    assert all(0 <= value <= 255 for colour in class_colours(150) for value in colour)
