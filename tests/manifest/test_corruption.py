"""A manifest that was cut short, altered or crafted is refused with a ManifestError, never believed, never another error."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path

import pytest

from pipeline.errors import ManifestError
from pipeline.manifest import ManifestRecord
from pipeline.manifest.schema import MANIFEST_FILE, parse, readable_json
from tests.manifest.fitting import EXPRESSION, fit_record, make_record

FILES = ("manifest.json", "arrays.safetensors")


@pytest.fixture(scope="module")
def record() -> ManifestRecord:
    return make_record()


@pytest.fixture
def saved(record, tmp_path) -> Path:
    record.save(tmp_path / "m")
    return tmp_path / "m"


def reseal(folder, change):
    """Apply `change` to the JSON and fill in its own sha256 again, as whoever crafts a file can."""
    path = folder / MANIFEST_FILE
    fields = json.loads(path.read_text())
    change(fields)
    if isinstance(fields.get("integrity"), dict):
        fields["integrity"]["manifest_sha256"] = ""
        text = readable_json(fields) + "\n"
        fields["integrity"]["manifest_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(readable_json(fields) + "\n")


def replace_arrays(folder, content):
    """Put `content` in the place of the arrays, with the right size and sha256 in the JSON."""
    (folder / "arrays.safetensors").write_bytes(content)

    def change(fields):
        fields["integrity"].update(arrays_bytes=len(content), arrays_sha256=hashlib.sha256(content).hexdigest())

    reseal(folder, change)


def refuse(folder, match=None):
    with pytest.raises(ManifestError, match=match) as caught:
        ManifestRecord.load(folder)
    return caught.value


def test_resealing_without_a_change_loads(saved, record):
    reseal(saved, lambda fields: None)
    replace_arrays(saved, (saved / "arrays.safetensors").read_bytes())
    assert ManifestRecord.load(saved).digest == record.digest


def test_a_missing_folder_and_missing_files(saved):
    refuse(saved / "nowhere", "no manifest there")
    refuse(saved / MANIFEST_FILE, "no manifest there")
    (saved / "arrays.safetensors").unlink()
    refuse(saved, "arrays are missing")
    (saved / MANIFEST_FILE).unlink()
    refuse(saved, "no manifest there")


def test_a_folder_in_the_place_of_a_file(saved):
    for name in FILES:
        content = (saved / name).read_bytes()
        (saved / name).unlink()
        (saved / name).mkdir()
        refuse(saved)
        (saved / name).rmdir()
        (saved / name).write_bytes(content)
    ManifestRecord.load(saved)


@pytest.mark.parametrize("name", FILES)
def test_cut_short_anywhere(saved, name):
    content = (saved / name).read_bytes()
    for length in {0, 1, 7, 8, 9, len(content) // 3, len(content) // 2, len(content) - 2, len(content) - 1}:
        (saved / name).write_bytes(content[:length])
        refuse(saved, name)
    (saved / name).write_bytes(content + b"\n")
    refuse(saved, name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("flip", [0x01, 0x29, 0xFF])
def test_any_altered_byte(saved, name, flip):
    content = (saved / name).read_bytes()
    for place in range(0, len(content), max(1, len(content) // 150)):
        altered = bytearray(content)
        altered[place] ^= flip
        (saved / name).write_bytes(altered)
        refuse(saved)


def test_altered_provenance_spacing_and_doubled_keys(saved):
    text = (saved / MANIFEST_FILE).read_text()
    assert text.count("by a test") == 1
    for altered in (
        text.replace("by a test", "by a pest"),
        text.replace("  ", " "),
        text.replace('"nan":', '"nan": "error", "nan":'),
    ):
        assert altered != text
        (saved / MANIFEST_FILE).write_text(altered)
        refuse(saved, "altered after it was written")


@pytest.mark.parametrize("version", [0, 2, 1000, "1", 1.0, None, True])
def test_another_schema_version(saved, version):
    reseal(saved, lambda fields: fields.update(schema_version=version))
    error = refuse(saved)
    if type(version) is int and version > 0:
        assert str(version) in str(error.found) and "1" in str(error.expected)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "1", '"text"', "[" * 100_000, '{"schema_version": 1}', "\xff", "NaN", "9" * 5000]
)
def test_what_is_no_manifest(saved, text):
    (saved / MANIFEST_FILE).write_bytes(text.encode("latin-1"))
    refuse(saved)


def test_integrity_that_is_no_object(saved):
    for odd in ([], {}, None, {"manifest_sha256": 1}):
        reseal(saved, lambda fields, odd=odd: fields.update(integrity=odd))
        refuse(saved)


CRAFTED = {
    "unknown step": lambda fields: fields["chain"][0].update(name="zcore"),
    "unknown option": lambda fields: fields["chain"][1]["options"].update(rnage=1),
    "impossible option": lambda fields: fields["chain"][1]["options"].update(ddof="many"),
    "no chain": lambda fields: fields.pop("chain"),
    "unknown key": lambda fields: fields.update(extra=1),
    "empty chain with arrays left": lambda fields: fields.update(chain=[]),
    "parameters left out": lambda fields: fields["chain"][1].update(parameters={}),
    "steps in another order": lambda fields: fields["chain"].reverse(),
    "other dims": lambda fields: fields.update(dims=["cell", "feature"]),
    "doubled dims": lambda fields: fields.update(dims=["gene", "gene"]),
    "no dims": lambda fields: fields.update(dims=[]),
    "sample dim that is none": lambda fields: fields.update(sample_dim="row"),
    "sample dim that is fitted": lambda fields: fields.update(sample_dim="gene"),
    "other sizes": lambda fields: fields["sizes"].update(gene=5),
    "negative size": lambda fields: fields["sizes"].update(gene=-1),
    "size beyond 64 bits": lambda fields: fields["sizes"].update(gene=2**70),
    "no sizes": lambda fields: fields.update(sizes={}),
    "per of nothing": lambda fields: fields["chain"][1].update(per=[]),
    "unknown dtype": lambda fields: fields.update(output_dtype="object"),
    "other dtype": lambda fields: fields.update(output_dtype="float32"),
    "other nan policy": lambda fields: fields.update(nan="propagate"),
    "unknown nan policy": lambda fields: fields.update(nan="ignore"),
    "digest of another": lambda fields: fields.update(digest="0" * 64),
    "digest that is none": lambda fields: fields.update(digest="../../etc"),
    "labels of another kind": lambda fields: fields["labels"][0].update(kind="integers"),
    "labels of another dim": lambda fields: fields["labels"][0].update(dim="cell"),
    "labels twice": lambda fields: fields["labels"].append(fields["labels"][0]),
    "statistics elsewhere": lambda fields: fields["statistics"][0].update(before_step=9),
    "statistics left out": lambda fields: fields["statistics"][0]["arrays"].pop("nobs"),
    "statistics of other dims": lambda fields: fields["statistics"][0].update(per=[]),
    "absurd bytes": lambda fields: fields["integrity"].update(arrays_bytes=2**62),
}


@pytest.mark.parametrize("what", CRAFTED)
def test_crafted_json(saved, what):
    reseal(saved, CRAFTED[what])
    refuse(saved)


def test_an_unknown_step_is_named_with_the_nearest(saved):
    reseal(saved, CRAFTED["unknown step"])
    error = refuse(saved, "unknown step")
    assert error.found == "zcore" and "zscore" in error.expected


@pytest.mark.parametrize("shape", [[2**40], [2**62, 2**62], [4, 10**12], [5], [2, 2], [], [2**70], [-4], ["4"]])
def test_declared_shapes_are_checked_before_the_file_is_read(saved, shape, monkeypatch):
    def change(fields):
        for entry in fields["chain"][1]["parameters"].values():
            entry["shape"] = shape

    reseal(saved, change)
    if shape and all(type(size) is int for size in shape) and max(shape) > 10**9:
        original = Path.read_bytes
        monkeypatch.setattr(
            Path, "read_bytes", lambda path: original(path) if path.name == MANIFEST_FILE else pytest.fail("read")
        )
    refuse(saved)


def test_an_arrays_file_of_another_size_is_not_read(saved, monkeypatch):
    original = Path.read_bytes
    (saved / "arrays.safetensors").write_bytes((saved / "arrays.safetensors").read_bytes() + b"\0")
    monkeypatch.setattr(Path, "read_bytes", lambda path: original(path) if path.name == MANIFEST_FILE else pytest.fail("read"))
    refuse(saved, "cut short or altered")


def header_of(content):
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_crafted_arrays_of_the_right_digest(saved):
    content = (saved / "arrays.safetensors").read_bytes()
    header, data = header_of(content)
    name = next(name for name in header if name.startswith("chain.1."))
    absurd = {**header, name: {**header[name], "shape": [2**50]}}
    shifted = {**header, name: {**header[name], "data_offsets": [0, 8]}}
    other_type = {**header, name: {**header[name], "dtype": "I64"}}
    renamed = {("chain.1.x" if key == name else key): value for key, value in header.items()}
    crafted = [
        *(with_header(changed, data) for changed in (absurd, shifted, other_type, renamed, [], None, {}, {"a": 1}, {"a": {}})),
        with_header(header, data + b"\0" * 8),
        with_header(header, data[:-8]),
        struct.pack("<Q", 2**63) + content[8:],
        struct.pack("<Q", 0) + content[8:],
        b"\0" * len(content),
        b"[" * len(content),
    ]
    for arrays in crafted:
        replace_arrays(saved, arrays)
        refuse(saved)
    replace_arrays(saved, content)
    ManifestRecord.load(saved)


def test_crafted_values_do_not_have_the_digest(saved):
    content = bytearray((saved / "arrays.safetensors").read_bytes())
    content[-1] ^= 1
    replace_arrays(saved, bytes(content))
    refuse(saved)


def test_label_ends_that_do_not_fit(saved):
    content = (saved / "arrays.safetensors").read_bytes()
    header, data = header_of(content)
    start, stop = header["labels.0.ends"]["data_offsets"]
    for ends in ([-1, 0, 0, 0], [9, 3, 2, 1], [2**62] * 4, [0, 0, 0, 1]):
        replace_arrays(saved, with_header(header, data[:start] + struct.pack("<4q", *ends) + data[stop:]))
        refuse(saved, "labels that do not fit")


def test_an_oversized_json_is_not_read(saved, monkeypatch):
    monkeypatch.setattr("pipeline.manifest.codec.MANIFEST_MAX_BYTES", 100)
    refuse(saved, "too large")


def test_files_of_two_manifests_do_not_mix(saved, tmp_path):
    fit_record([{"zscore": {"per": ["gene"]}}], EXPRESSION, ("cell", "gene")).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "arrays.safetensors", saved / "arrays.safetensors")
    refuse(saved, "arrays")


def test_the_message_names_file_and_remedy(saved):
    (saved / MANIFEST_FILE).write_text("{")
    error = refuse(saved)
    assert str(saved / MANIFEST_FILE) in str(error) and error.remedy
    assert error.exit_status == 2
    with pytest.raises(ManifestError):
        parse(b"{", "somewhere")
