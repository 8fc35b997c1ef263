"""Files that `torch.save` wrote for one matrix, turned into safetensors. Imports no torch and runs nothing of the file.

Such a file is an archive with the values as they lie in memory and a pickle that describes them. A pickle is a small
program; this one is compared, instruction by instruction, with the one program that rebuilds a plain tensor, and
never executed. Whatever is written differently is refused.
"""

from __future__ import annotations

import io
import json
import pickletools
import zipfile

MAGIC = b"PK"
MAX_PICKLE_BYTES = 4096
STORAGES = {"torch FloatStorage": ("F32", 4), "torch HalfStorage": ("F16", 2), "torch BFloat16Storage": ("BF16", 2)}
WITHOUT_MEANING = frozenset({"PROTO", "FRAME", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
INTEGERS = frozenset({"BININT", "BININT1", "BININT2"})
BOOLEANS = frozenset({"NEWTRUE", "NEWFALSE"})
ANY_NUMBER, ANY_TEXT, ANY_STORAGE, ANY_BOOLEAN = "a number", "a text", "a storage", "a boolean"
PROGRAM: tuple[str | tuple[str, str], ...] = (
    ("GLOBAL", "torch._utils _rebuild_tensor_v2"),
    "MARK",
    *("MARK", ("BINUNICODE", "storage"), ANY_STORAGE, ANY_TEXT, ANY_TEXT, ANY_NUMBER, "TUPLE", "BINPERSID"),
    ANY_NUMBER,  # the first value's place in the storage
    *(ANY_NUMBER, ANY_NUMBER, "TUPLE2"),  # the shape
    *(ANY_NUMBER, ANY_NUMBER, "TUPLE2"),  # how many values lie between neighbours
    ANY_BOOLEAN,
    *(("GLOBAL", "collections OrderedDict"), "EMPTY_TUPLE", "REDUCE"),
    *("TUPLE", "REDUCE", "STOP"),
)


class UnfitFileError(ValueError):
    """What is wrong, behind "it is a file of torch.save, but"."""


def to_safetensors(data: bytes) -> bytes:
    """The same matrix as a safetensors file. Raises UnfitFileError, and nothing else whatever the bytes are."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        pickles = [entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UnfitFileError("it does not describe one tensor")
        folder = pickles[0].filename.removesuffix("data.pkl")
        program = _read(archive, pickles[0], MAX_PICKLE_BYTES)
        storage, key, (num_values, first, rows, columns, row_step, column_step) = _follow(program)
        dtype, value_bytes = STORAGES[storage]
        values = _read(archive, archive.getinfo(f"{folder}data/{key}"), len(data))
        name = f"{folder}byteorder"
        order = _read(archive, archive.getinfo(name), 16) if name in archive.namelist() else b"little"
    except UnfitFileError:
        raise
    except Exception as error:  # zipfile and pickletools have many ways to be disappointed
        raise UnfitFileError(f"the archive cannot be read: {type(error).__name__}") from error
    if order != b"little":
        raise UnfitFileError("its bytes are in the order of another machine")
    if (column_step, row_step) != (1, columns) and rows * columns > 1:
        raise UnfitFileError("its values do not lie row after row; save tensor.contiguous()")
    if len(values) != num_values * value_bytes or first + rows * columns > num_values or min(rows, columns) < 1:
        raise UnfitFileError("its size is not what it says")
    begin, length = first * value_bytes, rows * columns * value_bytes
    header = {"prompt_embeds": {"dtype": dtype, "shape": [rows, columns], "data_offsets": [0, length]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values[begin : begin + length]


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    """Only what is stored as it is, so that a small file cannot become a large one."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > limit:
        raise UnfitFileError("it is not a plain tensor")
    return archive.read(entry)


def _follow(pickle: bytes) -> tuple[str, str, list[int]]:
    """The storage's type and name, and all numbers in the order of PROGRAM."""
    steps = [(opcode.name, value) for opcode, value, _ in pickletools.genops(pickle)]
    steps = [step for step in steps if step[0] not in WITHOUT_MEANING]
    if len(steps) != len(PROGRAM):
        raise UnfitFileError("it is not a plain tensor of two dimensions")
    storage, texts, numbers = "", [], []
    for expected, (name, value) in zip(PROGRAM, steps, strict=True):
        if expected == ANY_NUMBER and name in INTEGERS and isinstance(value, int) and value >= 0:
            numbers.append(value)
        elif expected == ANY_TEXT and name == "BINUNICODE":
            texts.append(str(value))
        elif expected == ANY_STORAGE and name == "GLOBAL" and value in STORAGES:
            storage = str(value)
        elif (
            expected != name and expected != (name, value) and not (expected == ANY_BOOLEAN and name.startswith("NEW"))
        ):
            raise UnfitFileError("it is not a plain float16, bfloat16 or float32 tensor of two dimensions")
    return storage, texts[0], numbers
