"""Damage to files: bytes that are flipped, cut and swapped, and values that no writer meant."""

import io
import json
import struct
import zipfile
import zlib
from random import Random
from typing import Any

# Values that a reader of JSON meets from a stranger or after an accident.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 10**9, 10**18, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, 0.0, -0.0, 1e-320, 0.5,
    1e38, 1e300, -1e300, float("inf"), float("-inf"), float("nan"), "", " ", "0", "CT", "..", "../../x", "/etc/passwd",
    "a\0b", "\ud800", "\x1b[2J\x1b]0;x\x07", "\u202etxt.exe", "name\nremedy: rm -rf", "x" * 5000, "²", "{command}",
    [], [[]], {}, {"": 0}, [0], [1, 2, 3], [1e9] * 3, [True], {"0": "CT"}, [None] * 3, "file.py:factory", "os:system",
)  # fmt: skip
# Texts that stand for a number in JSON, which json.dumps would not write.
NUMBERS = (b"1e400", b"-1e999", b"NaN", b"Infinity", b"1" * 5000, b"0" * 30, b"1e-400", b"-0", b"01", b"0x10", b"+1")
BYTES = (
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0" * 16,
    b"\r\n",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
)


def flip(data: bytes, random: Random) -> bytes:
    """Other bits in a few bytes."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        if out:
            # The head of a file says what the rest is.
            place = random.randrange(min(len(out), random.choice((64, 512, len(out)))))
            out[place] = random.choice((out[place] ^ (1 << random.randrange(8)), 0, 255, random.randrange(256)))
    return bytes(out)


def cut(data: bytes, random: Random) -> bytes:
    """The file ends early, begins late, or lacks its middle."""
    if not data:
        return data
    start, stop = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return random.choice((data[:start], data[start:], data[:start] + data[stop:]))


def zeroed(data: bytes, random: Random) -> bytes:
    """A part, or all, is zero: what is left of a file that a failing disk did not write."""
    start, stop = sorted(random.randrange(len(data) + 1) for _ in range(2))
    if random.random() < 0.1:
        start, stop = 0, len(data)
    return data[:start] + bytes(stop - start) + data[stop:]


def inserted(data: bytes, random: Random) -> bytes:
    """Foreign bytes in between, or a piece of the file twice."""
    place = random.randrange(len(data) + 1)
    start, stop = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:place] + random.choice((random.choice(BYTES), data[start : min(stop, start + 4096)])) + data[place:]


def swapped_number(data: bytes, random: Random) -> bytes:
    """A number of the text is another one."""
    places = [i for i, byte in enumerate(data[:20000]) if 48 <= byte <= 57]
    if not places:
        return flip(data, random)
    place = random.choice(places)
    stop = place
    while stop < len(data) and 48 <= data[stop] <= 57:
        stop += 1
    new = random.choice(
        (b"0", b"-1", b"2147483647", b"4294967296", b"99999999999999999999", b"nan", b"1e30", b"inf", b"")
    )
    return data[:place] + new + data[stop:]


def swapped_word(data: bytes, random: Random) -> bytes:
    """A word of a header in lines is another one, very long, or gone; or a line is twice or gone."""
    head, separator, rest = data.partition(b"\n\n")
    lines = head.split(b"\n")
    line = random.randrange(min(len(lines), 40))
    choice = random.randrange(5)
    if choice == 0:
        lines.insert(line, lines[random.randrange(len(lines))])
    elif choice == 1:
        del lines[line]
    else:
        words = lines[line].split(b" ")
        words[random.randrange(len(words))] = random.choice(
            (b"x" * 5000, b"", b"LOCAL", b"../x.raw", b"/dev/zero", b"True", b"\xff")
        )
        lines[line] = b" ".join(words)
    return b"\n".join(lines) + separator + rest


def other_value(content: Any, random: Random) -> Any:
    """JSON content with one value, somewhere inside, replaced, removed, nested or repeated."""
    if random.random() < 0.02:
        return random.choice(VALUES)
    if isinstance(content, dict) and content:
        key = random.choice(list(content))
        choice = random.randrange(12)
        changed = dict(content)
        if choice == 0:
            del changed[key]
        elif choice == 1:
            changed[str(random.choice(VALUES))[:6000]] = changed[key]
        elif choice <= 3 or not isinstance(changed[key], dict | list):
            changed[key] = _near(changed[key], random)
        else:
            changed[key] = other_value(changed[key], random)
        return changed
    if isinstance(content, list) and content:
        place = random.randrange(len(content))
        changed = list(content)
        choice = random.randrange(8)
        if choice == 0:
            del changed[place]
        elif choice == 1:
            changed.insert(place, changed[place])
        elif choice == 2:
            changed *= random.choice((2, 100))
        else:
            changed[place] = other_value(changed[place], random)
        return changed
    return _near(content, random)


def _near(value: Any, random: Random) -> Any:
    """A hostile value; half of the time one of the same kind."""
    if random.random() < 0.5:
        same = [other for other in VALUES if type(other) is type(value)]
        if same:
            return random.choice(same)
    if random.random() < 0.02:
        deep: Any = value
        for _ in range(random.choice((70, 5000))):
            deep = [deep]
        return deep
    return random.choice(VALUES)


def dumped(content: Any) -> bytes:
    """JSON text of content that json alone would refuse or could not walk."""
    try:
        return json.dumps(content).encode("utf-8")
    except (RecursionError, UnicodeEncodeError):
        return b"[" * 5000 + b"1" + b"]" * 5000


def changed_json(data: bytes, random: Random) -> bytes:
    """A JSON file with other values; rarely with text that is not JSON."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return flip(data, random)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        content = other_value(content, random)
    text = dumped(content)
    if random.random() < 0.1:
        text = swapped_text_number(text, random)
    return text


def swapped_text_number(text: bytes, random: Random) -> bytes:
    """One number of a JSON text as a writer of another language might spell it."""
    places = [i for i, byte in enumerate(text) if 48 <= byte <= 57 and text[i - 1 : i] in (b" ", b"[", b":")]
    if not places:
        return text
    place = stop = random.choice(places)
    while stop < len(text) and text[stop] in b"0123456789.eE+-":
        stop += 1
    return text[:place] + random.choice(NUMBERS) + text[stop:]


def changed_lines(data: bytes, random: Random) -> bytes:
    """A file of JSON lines with another line."""
    lines = data.split(b"\n")
    place = random.randrange(len(lines))
    lines[place] = changed_json(lines[place], random) if lines[place].strip() else b"3"
    return b"\n".join(lines)


def changed_safetensors(data: bytes, random: Random) -> bytes:
    """A safetensors file whose header says something else; gdmunet's description inside it too."""
    if len(data) < 8:
        return flip(data, random)
    (size,) = struct.unpack("<Q", data[:8])
    try:
        header = json.loads(data[8 : 8 + size])
    except (ValueError, RecursionError):
        return flip(data, random)
    described = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(described, dict) and described and random.random() < 0.7:
        described.pop("sha256", None)  # whoever forges a file leaves it out
        key = next(iter(described))
        described[key] = changed_json(described[key].encode(), random).decode("utf-8", "surrogateescape")
    else:
        header = other_value(header, random)
    text = dumped(header)
    length = len(text) if random.random() < 0.95 else random.choice((0, 2**63, 2**64 - 1, len(text) - 3, len(text) + 9))
    return struct.pack("<Q", max(0, length)) + text + data[8 + size :]


def changed_nifti(data: bytes, random: Random) -> bytes:
    """A NIfTI file with other fields in its header."""
    fields = {
        "<h": (40, 42, 44, 46, 48, 50, 70, 72, 252, 254),
        "<f": (76, 80, 84, 88, 108, 112, 116, 256, 268, 280, 296, 312),
        "<i": (0, 344),
    }
    values: dict[str, tuple[float, ...]] = {
        "<h": (0, 1, -1, 2, 3, 4, 7, 8, 16, 64, 128, 256, 512, 1024, 1536, 32767, -32768),
        "<f": (0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), 1e6, 352.5, 1e-45),
        "<i": (0, 348, 540, -1, 2**31 - 1),
    }
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 3))):
        kind = random.choice(("<h", "<h", "<f", "<f", "<i"))
        place = random.choice(fields[kind])
        value = struct.pack(kind, random.choice(values[kind]))
        out[place : place + len(value)] = value
    return bytes(out)


def packed_again(data: bytes, random: Random, change) -> bytes:
    """A gzip file whose content is changed, with checksums that are right."""
    try:
        content = zlib.decompress(data, 31)
    except zlib.error:
        return flip(data, random)
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(change(content, random)) + packer.flush()


def changed_archive(data: bytes, random: Random, change) -> bytes:
    """A zip with a changed, renamed or surplus member, or one that unpacks to a thousand times its size."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            members = [(member.filename, old.read(member)) for member in old.infolist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, zlib.error):
        return flip(data, random)
    place = random.randrange(len(members))
    name, content = members[place]
    choice = random.randrange(8)
    if choice <= 3:
        members[place] = (name, change(name, content, random))
    elif choice == 4:
        members[place] = (
            random.choice(("../" + name, "/" + name, name + "/x", "evil.py", "", "C:\\x", name.upper())),
            content,
        )
    elif choice == 5:
        members.append(random.choice(((name + "2", content), (name.replace("fold_0", "fold_7"), content), (name, b""))))
    elif choice == 6:
        members[place] = (name, bytes(random.choice((10**5, 3 * 10**6))))
    else:
        del members[place]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in members:
            member = zipfile.ZipInfo(name or "x")
            member.compress_type = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            if random.random() < 0.05:
                member.external_attr = 0o120777 << 16
            if name not in new.namelist():
                new.writestr(member, content)
    return file.getvalue() if random.random() < 0.9 else flip(file.getvalue(), random)


PLAIN = (flip, flip, cut, zeroed, inserted)


def damaged(data: bytes, random: Random, aimed) -> bytes:
    """One input: aimed at the format two times of three, else at the bytes; at times twice."""
    for _ in range(random.choice((1, 1, 1, 2))):
        change = aimed if random.random() < 0.67 else random.choice(PLAIN)
        try:
            data = change(data, random)
        except (ValueError, TypeError, AttributeError, LookupError, struct.error):
            data = flip(data, random)  # damaged twice: the format is no longer there to aim at
    return data
