#!/usr/bin/env python3
"""Verifies evidence logs of kms-rotationd, with nothing of that program.

    python3 verify.py [FOLDER ...] [--anchor NOTE ...]

A log is a folder with log.json. Without FOLDER, the logs beside this script are verified. NOTE is a file with a signed
checkpoint that was kept elsewhere. The formats are RFC 6962 (the tree), c2sp.org/signed-note and
c2sp.org/tlog-checkpoint.

Exit code: 0 consistent and anchored; 1 inconsistent; 2 usage; 3 consistent, and not anchored; 4 consistent, and the
signatures were not checked, since there is no Python package for Ed25519.
"""
import argparse, base64, gzip, hashlib, json, os, re, sys, zlib

CLAIM = ("It shows that nothing older than the newest checkpoint kept elsewhere was changed or removed. What this "
         "machine writes after that, and whether it told the truth in the first place, rests on the machine.")


def sha256(data):
    return hashlib.sha256(data).digest()


def decode(text):
    """Base64 in its one notation."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("not canonical base64")
    return data


def ed25519():
    """The function verify(public key, signature, text) of the package that is installed, or None."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        return lambda key, signature, text: Ed25519PublicKey.from_public_bytes(key).verify(signature, text)
    except ImportError:
        pass
    try:
        from nacl.signing import VerifyKey
        return lambda key, signature, text: VerifyKey(key).verify(text, signature)
    except ImportError:
        return None


class Tree:
    """The roots of the complete subtrees, from the oldest records to the newest: all that appending needs."""

    def __init__(self, size=0, hashes=()):
        self.size, self.hashes = size, list(hashes)

    def append(self, line):
        node, size = sha256(b"\0" + line), self.size
        while size & 1:  # a subtree of the same size is on the left
            node, size = sha256(b"\1" + self.hashes.pop() + node), size >> 1
        self.hashes.append(node)
        self.size += 1

    def root(self):
        node = self.hashes[-1] if self.hashes else sha256(b"")
        for left in reversed(self.hashes[:-1]):
            node = sha256(b"\1" + left + node)
        return node


class Key:
    """The public key of a log: NAME+ID+BASE64."""

    def __init__(self, vkey, origin):
        self.name, key_id, key = vkey.split("+", 2)
        key = decode(key)
        self.id, self.public = sha256(self.name.encode() + b"\n" + key)[:4], key[1:]
        if self.name != origin or key[0] != 1 or len(key) != 33 or self.id.hex() != key_id:
            raise ValueError("the public key in log.json is not an Ed25519 key of this log")

    def checkpoint(self, note, verify):
        """The size and the root that a note states, if this key has signed it."""
        text, signatures = note.split("\n\n", 1)
        origin, size, root = text.split("\n")[:3]
        for line in signatures.split("\n")[:-1]:  # each ends with a line break
            dash, name, signature = line.split(" ")
            signature = decode(signature)
            if (dash, name, signature[:4]) == ("\u2014", self.name, self.id) and origin == self.name:
                if verify:
                    verify(self.public, signature[4:], (text + "\n").encode())
                return int(size), decode(root)
        raise ValueError("no signature by the key of this log")


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


class Log:
    def __init__(self, folder, notes, verify):
        self.folder, self.origin, self.problems, self.tree, self.first = folder, "unknown", [], Tree(), None
        self.roots = {}  # size -> root -> what states it
        self.anchored = self.unchanged = self.at = None
        self.newest, self.incomplete = (0, ""), 0
        try:
            identity = json.loads(read(os.path.join(folder, "log.json")))
            self.origin = identity["origin"]
            key = Key(identity["public_key"], self.origin)
        except (ValueError, KeyError, TypeError) as error:
            self.problems.append(f"UNKNOWN KEY: log.json is damaged: {error}")
            return
        for what, time, note in self.notes(notes):
            try:
                size, root = key.checkpoint(note, verify)
            except Exception as error:  # each package has exceptions of its own for a wrong signature
                self.problems.append(f"NOT SIGNED: {what} ({error or 'the signature does not fit'})")
                continue
            self.roots.setdefault(size, {}).setdefault(root, []).append(what)
            if what != "an anchor":
                self.newest = max(self.newest, (size, time))
        for size, roots in self.roots.items():
            if len(roots) > 1:
                self.problems.append(f"FORKED: the log's key has signed two different logs of {size} records")

    def notes(self, anchors):
        """What each note is, its time and its text: the checkpoints in the folder, and the anchors of this log."""
        newest = read(os.path.join(self.folder, "checkpoint"))
        if newest:
            yield "the checkpoint", "", newest
        lines = read(os.path.join(self.folder, "checkpoints.jsonl")).split("\n")
        for number, line in enumerate(lines, 1):
            try:
                line = json.loads(line)
                yield f"the checkpoint signed {line['at']}", line["at"], line["note"]
            except (ValueError, KeyError, TypeError):
                if line.strip("\0") and number < len(lines):  # a crash can cut the last line
                    self.problems.append(f"NOT SIGNED: line {number} of checkpoints.jsonl")
        yield from (("an anchor", "", note) for note in anchors if note.split("\n", 1)[0] == self.origin)

    def read_segments(self):
        must_be_there = max(self.roots, default=0)
        names = sorted(name for name in os.listdir(self.folder) if re.fullmatch(r"[0-9]{20}\.jsonl(\.gz)?", name))
        for name in names:
            if name[:-3] in names:  # the program was killed while it compressed this segment
                continue
            start, opener = int(name[:20]), gzip.open if name.endswith(".gz") else open
            with opener(os.path.join(self.folder, name), "rb") as segment:
                for number, line in enumerate(segment, start):
                    record = as_record(line, number)
                    if record is None:
                        self.incomplete = len(line) + len(segment.read())
                        if number < must_be_there and line.endswith(b"\n"):
                            raise ValueError(f"the line of record number {number} is not that record")
                        break
                    if number == start:
                        self.continue_from(start, record)
                    self.at = record["at"]
                    self.tree.append(line[:-1])
                    self.compare()
        if self.tree.size < must_be_there:
            self.problems.append(f"TRUNCATED: {self.tree.size} records found; missing records are stated by "
                                 f"{self.stated(must_be_there)}")

    def continue_from(self, start, record):
        """The first record of a segment states the tree before it."""
        before = Tree(record["tree_size"], [decode(node) for node in record["frontier"]])
        if before.size != start or bin(start).count("1") != len(before.hashes) or (
                self.first is not None and before.hashes != self.tree.hashes):
            raise ValueError(f"the segment of record number {start} does not follow the one before it")
        if self.first is None:
            self.tree, self.first = before, start
            self.compare()

    def compare(self):
        """Compares the tree with what checkpoints and anchors state of its size."""
        if self.tree.size not in self.roots:
            return
        size, root = self.tree.size, self.tree.root()
        if list(self.roots[size]) == [root]:
            self.unchanged = size
        elif not any(problem.startswith("REWRITTEN") for problem in self.problems):
            first, last = self.unchanged or 0, size - 1
            which = f"a record between number {first} and number {last}" if first < last else f"record number {last}"
            matches = f"; {self.stated(first)}, still matches" if first else ""
            self.problems.append(f"REWRITTEN: {which} differs from what was stated by {self.stated(size)}{matches}")
        if size and "an anchor" in self.roots[size].get(root, []):
            self.anchored = (size, self.at)

    def stated(self, size):
        return f"{max(what for roots in self.roots[size].values() for what in roots)} over {size} records"

    def verify(self):
        """Prints what was found. Returns whether the log is consistent, and whether an anchor agrees with it."""
        if self.origin.startswith("kms-rotationd/simulated/"):
            print("SIMULATED: this log is of a simulated cloud and is no evidence of real keys.")
        print(f"{self.origin} in {self.folder}")
        try:
            self.read_segments()
        except (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error) as error:
            self.problems.append(f"REWRITTEN: {error}")
        size, (newest, time) = self.tree.size, self.newest
        print(f"  records     {size}, of which numbers {self.first or 0} to {size - 1} are here")
        print(f"  root        {base64.b64encode(self.tree.root()).decode()}")
        print(f"  checkpoint  over {newest} records" + (f", signed {time}" if time else ""))
        if size > newest:
            print(f"  unsigned    {size - newest} records not yet signed")
        if self.incomplete:
            print(f"  incomplete  {self.incomplete} bytes after the last record: a write was cut or is under way")
        for problem in dict.fromkeys(self.problems):
            print(f"  {problem}")
        if self.problems:
            print("  INCONSISTENT.\n")
        elif self.anchored:
            print(f"  CONSISTENT AND ANCHORED: up to record number {self.anchored[0] - 1}"
                  + (f" of {self.anchored[1]}" if self.anchored[1] else "") + ", no record was changed or removed.\n")
        else:
            print("  CONSISTENT, NOT ANCHORED: only an anchor that is kept elsewhere (--anchor NOTE) shows that the "
                  "records are unchanged.\n")
        return not self.problems, bool(self.anchored)


def as_record(line, number):
    try:
        record = json.loads(line)
        return record if line.endswith(b"\n") and (record["v"], record["seq"]) == (1, number) else None
    except (ValueError, KeyError, TypeError):
        return None


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", nargs="*")
    arguments.add_argument("--anchor", action="append", default=[], metavar="NOTE")
    arguments = arguments.parse_args()
    here = os.path.dirname(os.path.abspath(__file__))
    folders = arguments.folder or sorted(entry.path for entry in os.scandir(here) if entry.is_dir())
    notes, verify = [read(path) for path in arguments.anchor], ed25519()
    if not all("\n\n" in note for note in notes):
        arguments.error("expected a signed checkpoint in each NOTE, as `kms-rotationd evidence checkpoint` prints it")
    if not folders or not all(os.path.isfile(os.path.join(folder, "log.json")) for folder in folders):
        arguments.error("expected folders with log.json")
    logs = [Log(folder, notes, verify) for folder in folders]
    results = [log.verify() for log in logs]
    for origin in sorted({note.split("\n", 1)[0] for note in notes} - {log.origin for log in logs}):
        print(f"An anchor of the log {origin} is not used: this log was not given.\n")
    is_consistent, is_anchored = (all(result[at] for result in results) for at in (0, 1))
    if not verify:
        print("THE SIGNATURES WERE NOT CHECKED: there is no Python package for Ed25519. Run `pip install cryptography` "
              "and this script again, or check the signature of each `checkpoint` with openssl as in README.md.\n")
    if not (is_consistent and is_anchored and verify):
        print("What a log that is consistent and anchored shows:")
    print(CLAIM)
    return 1 if not is_consistent else 4 if not verify else 0 if is_anchored else 3


sys.exit(main())
