#!/usr/bin/env python3
"""tidy.py BUILD [JOBS]: clang-tidy over every file of ours in BUILD/compile_commands.json, JOBS (2) at a time.

A file that passed is not looked at again until its preprocessed text, its command or .clang-tidy changes: the stamps are in
BUILD/tidy/.
"""
import concurrent.futures
import hashlib
import json
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROOMS = ("client", "agent", "common", "netstack", "tests")
CONFIGS = b"".join(p.read_bytes() for p in sorted(ROOT.glob("**/.clang-tidy")) if "build" not in p.parts)


def ours(entry):
    path = pathlib.Path(entry["file"])
    return path.suffix == ".c" and path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in ROOMS


def key_of(entry):
    """What the result depends on; None if the file does not even preprocess."""
    command = shlex.split(entry["command"])
    command = command[: command.index("-o")] + ["-E", "-P", entry["file"]]
    done = subprocess.run(command, cwd=entry["directory"], capture_output=True)
    if done.returncode != 0:
        return None
    source = pathlib.Path(entry["file"]).read_bytes()  # comments count too: NOLINT
    return hashlib.sha256(CONFIGS + entry["command"].encode() + source + done.stdout).hexdigest()


def check(entry, build):
    key = key_of(entry)
    stamp = build / "tidy" / (key or "none")
    if key and stamp.exists():
        return entry["file"], 0, ""
    command = ["clang-tidy-14", "--quiet", "-p", str(build), "--extra-arg=-Wno-unknown-warning-option",
               "--extra-arg=-Wno-string-concatenation", entry["file"]]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0 and key:
        stamp.touch()
    return entry["file"], done.returncode, done.stdout


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    jobs = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    (build / "tidy").mkdir(exist_ok=True)
    entries = {e["file"]: e for e in json.loads((build / "compile_commands.json").read_text()) if ours(e)}
    if not entries:
        sys.exit("tidy: no file of ours in compile_commands.json")
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for name, rc, text in pool.map(lambda e: check(e, build), entries.values()):
            if rc != 0:
                bad += 1
                print(text or f"{name}: clang-tidy ended with {rc}", flush=True)
    print(f"tidy: {len(entries)} files, {bad} with findings")
    sys.exit(bad != 0)


if __name__ == "__main__":
    main()
