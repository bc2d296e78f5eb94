"""Tells by its first bytes when a file holds no text, or text that is not UTF-8, and names what it is."""

from __future__ import annotations

import re

from ..errors import PromptError, shorten

PARQUET = b"PAR1"
_UNPACK = "unpack it, and load the file inside"
_TEXT = "load a file of text: JSON, CSV or one prompt a line"
_TABLE = "save it as CSV or JSON lines"

# First bytes of a file -> what it is, and the remedy.
_MAGICS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a Zip archive or a workbook of a spreadsheet program",
     "unpack it, or save the table as CSV"),
    (b"\x1f\x8b", "compressed by gzip", _UNPACK),
    (b"BZh", "compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ", "compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", _UNPACK),
    (b"\x04\x22\x4d\x18", "compressed by LZ4", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a", "a RAR archive", _UNPACK),
    (b"\xd0\xcf\x11\xe0", "a document of an older office program", _TABLE),
    (b"\x89PNG", "a PNG image", _TEXT),
    (b"\xff\xd8\xff", "a JPEG image", _TEXT),
    (b"GIF87a", "a GIF image", _TEXT),
    (b"GIF89a", "a GIF image", _TEXT),
    (b"II*\0", "a TIFF image", _TEXT),
    (b"MM\0*", "a TIFF image", _TEXT),
    (b"%PDF-", "a PDF document", _TEXT),
    (b"{\\rtf", "a rich text document", "save it as plain text"),
    (b"SQLite format 3\0", "an SQLite database", _TABLE),
    (b"ARROW1", "an Arrow (Feather) file", _TABLE),
    (b"ORC", "an ORC file", _TABLE),
    (b"Obj\x01", "an Avro file", _TABLE),
    (b"\x89HDF", "an HDF5 file", _TABLE),
    (b"\x93NUMPY", "a NumPy array", _TABLE),
    (b"GGUF", "a GGUF model", _TEXT),
    (b"\x7fELF", "a program", _TEXT),
    (b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS, not the data",
     "run `git lfs pull`, or download the file itself"),
    (b"<!doctype html", "a page of the web, not the data", "download the file itself"),
)  # fmt: skip
# Begin a text as well, so that they are believed only beside bytes that no text has.
_WORDS = (b"BZh", b"GGUF", b"ORC")
_RIFF = {b"WEBP": "a WebP image", b"WAVE": "a WAVE sound", b"AVI ": "an AVI film"}
_UTF16, _UTF32 = "in UTF-16", "in UTF-32"
_MARKS = (
    (b"\xff\xfe\0\0", _UTF32),
    (b"\0\0\xfe\xff", _UTF32),
    (b"\xff\xfe", _UTF16),
    (b"\xfe\xff", _UTF16),
)
# Control characters but tab, line ends, form feed, end of file of DOS, and escape.
_CONTROLS = re.compile(rb"[\x00-\x06\x0e-\x19\x1c-\x1f]")
_MOST_CONTROLS = 0.02  # of the bytes; a text may have one by accident


def check_bytes(head: bytes, name: str) -> None:
    """Refuse what is known by its first bytes not to be UTF-8 text; Parquet passes.

    Args:
        head: The first bytes of the file.
        name: The file's name.

    Raises:
        PromptError: It is something else, which the message names with the remedy.
    """
    found = _find_magic(head) or _find_encoding(head)
    if found:
        what, remedy = found
        raise PromptError(f"{shorten(name)} is {what}; {remedy}.")


def not_utf8(data: bytes, number: int, name: str) -> PromptError:
    """Return the error of a line whose bytes are not UTF-8.

    Args:
        data: The line's bytes.
        number: The line's number, from 1.
        name: The file's name, as a message shows it.
    """
    if len(_CONTROLS.findall(data)) > _MOST_CONTROLS * len(data):
        return PromptError(
            f"{name} is not UTF-8 at line {number}: it seems to be no text at all. Save the file as UTF-8 text."
        )
    # In Latin letters the others stand between ASCII; in Shift JIS, GBK and the like two or more belong together.
    others = re.findall(rb"[\x80-\xff]+", data)
    alone = sum(len(run) == 1 for run in others)
    guess = "Latin-1 (Windows-1252)" if alone * 2 > len(others) else "Shift JIS, GBK or Latin-1"
    return PromptError(
        f"{name} is not UTF-8 at line {number}: it seems to be in an older encoding such as {guess}. "
        "Save the file as UTF-8."
    )


def _find_magic(head: bytes) -> tuple[str, str] | None:
    lowered = head[:64].lstrip().lower()
    for magic, what, remedy in _MAGICS:
        if magic.startswith(b"<"):
            if lowered.startswith(magic):
                return what, remedy
        elif head.startswith(magic) and (magic not in _WORDS or _CONTROLS.search(head)):
            return what, remedy
    if head.startswith(b"RIFF") and head[8:12] in _RIFF:
        return _RIFF[head[8:12]], _TEXT
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle of Python", _TABLE
    return None


def _find_encoding(head: bytes) -> tuple[str, str] | None:
    remedy = "it must be UTF-8. Save the file as UTF-8"
    for mark, what in _MARKS:
        if head.startswith(mark):
            return what, remedy
    # Without a mark: every second byte of ASCII text is 0.
    sample = head[: 4096 - len(head) % 2 if len(head) < 4096 else 4096]
    half = len(sample) // 2
    for zeros, letters in ((sample[1::2], sample[::2]), (sample[::2], sample[1::2])):
        if half >= 4 and zeros.count(0) > 0.4 * half and letters.count(0) < 0.1 * half:
            return _UTF16, remedy
    return None
