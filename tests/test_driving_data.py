"""Sim10k and Cityscapes in their own layouts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from faster_coco_eval.core import mask as coco_mask
from PIL import Image

from bob.datasets.driving import cityscapes_to_coco, load_sim10k_cityscapes, voc_to_coco
from bob.errors import BobError

VOC = """<annotation><filename>{name}.jpg</filename>
<size><width>20</width><height>16</height><depth>3</depth></size>
<object><name>car</name><bndbox><xmin>1</xmin><ymin>3</ymin><xmax>10</xmax><ymax>8</ymax></bndbox>
</object><object><name>person</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax>
<ymax>2</ymax></bndbox></object></annotation>"""


def driving(root: Path) -> None:
    voc = root / "sim10k" / "VOC2012"
    for part in ("Annotations", "JPEGImages"):
        (voc / part).mkdir(parents=True)
    for name in ("3384645", "3384646"):
        (voc / "Annotations" / f"{name}.xml").write_text(VOC.format(name=name))
        Image.new("RGB", (20, 16)).save(voc / "JPEGImages" / f"{name}.jpg")
    city = root / "cityscapes"
    for part in ("leftImg8bit", "gtFine"):
        (city / part / "val" / "lindau").mkdir(parents=True)
    stem = "lindau_000000_000019"
    Image.new("RGB", (20, 16)).save(
        city / "leftImg8bit" / "val" / "lindau" / f"{stem}_leftImg8bit.png"
    )
    objects = [
        {"label": "car", "polygon": [[2, 3], [12, 3], [12, 9], [2, 9]]},
        {"label": "cargroup", "polygon": [[12, 3], [25, 3], [25, 9], [12, 9]]},
        {"label": "road", "polygon": [[0, 0], [20, 0], [20, 16]]},
    ]
    text = json.dumps({"imgHeight": 16, "imgWidth": 20, "objects": objects})
    (city / "gtFine" / "val" / "lindau" / f"{stem}_gtFine_polygons.json").write_text(text)


def test_sim10k_and_cityscapes_in_their_own_layouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driving(tmp_path)
    monkeypatch.setenv("BOB_DATA", str(tmp_path))
    data = load_sim10k_cityscapes()
    assert (len(data.train), data.test_size, data.test) == (2, 1, None)
    assert data.train.sample(0).target.boxes.tolist() == [[0, 2, 10, 8]]
    cars = data.shifts[0].split
    assert cars.sample(0).target.boxes.tolist() == [[2, 3, 12, 9]]
    crowd = cars.dataset["annotations"][1]
    assert crowd["iscrowd"] == 1
    assert crowd["bbox"] == [12, 3, 8, 6]
    assert coco_mask.decode(crowd["segmentation"]).sum() == 48
    polygons = next((tmp_path / "cityscapes").rglob("*.json"))
    polygons.write_text(polygons.read_text().replace('"car"', '"bus"'))
    with pytest.raises(BobError, match="all 1 annotations are of crowds: there is nothing to sco"):
        load_sim10k_cityscapes()


def test_malformed_driving_annotations_name_the_file(tmp_path: Path) -> None:
    driving(tmp_path)
    broken = tmp_path / "sim10k" / "VOC2012" / "Annotations" / "3384646.xml"
    broken.write_text("<annotation>")
    with pytest.raises(BobError, match=r"3384646\.xml is not a VOC annotation"):
        voc_to_coco(tmp_path / "sim10k" / "VOC2012", classes=("car",))
    polygons = next((tmp_path / "cityscapes" / "gtFine").rglob("*.json"))
    polygons.write_text("{}")
    with pytest.raises(BobError, match=r"polygons\.json is not a Cityscapes annotation"):
        cityscapes_to_coco(tmp_path / "cityscapes", "val")
    car = {"label": "car", "polygon": [[1, 2], [3, 4]]}
    polygons.write_text(json.dumps({"imgHeight": 16, "imgWidth": 20, "objects": [car]}))
    with pytest.raises(BobError, match=r"polygons\.json .* is not three or more points"):
        cityscapes_to_coco(tmp_path / "cityscapes", "val")
    with pytest.raises(BobError, match="holds no"):
        cityscapes_to_coco(tmp_path / "cityscapes", "train")
