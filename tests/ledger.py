#!/usr/bin/env python3
"""ledger.py [--head SEQ:HASH] FILE...: verifies a ledger of sigsh, without a line of sigsh's own code.

FILEs are those of one chain, in order. Prints the first bad line and exits with 1, or prints what was found and exits with 0.
"""
import datetime, hashlib, json, re, sys

def record(raw):
    """The object in a line, or None where it is no record: torn by a crash or a full disk."""
    try:
        o = json.loads(raw.decode())
        again = json.dumps(o, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        datetime.datetime.strptime(o["time"][:19], "%Y-%m-%dT%H:%M:%S")
        good = again == raw and len(raw) <= 16384 and type(o["seq"]) is int and 1 <= o["seq"] < 1 << 63
        good = good and all(re.fullmatch("[a-z0-9_]+", k) and (type(v) is str or k == "seq") for k, v in o.items())
        good = good and re.fullmatch("[0-9a-f]{64}", o["prev"]) and o["event"] and o["time"] >= "1970"
        return o if good and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", o["time"], re.ASCII) else None
    except Exception:
        return None

def verify(files, head):
    seq, prev, time, ended, torn, intents, met = None, "0" * 64, "", True, 0, {}, head is None
    for name in files:
        lines = open(name, "rb").read().split(b"\n")
        if lines[-1] == b"" and len(lines) > 1:
            lines.pop()
        for n, raw in enumerate(lines, 1):
            o, hash, at = record(raw), hashlib.sha256(raw).hexdigest(), f"{name}:{n}"
            event = o["event"] if o else None
            begins = event == "continue" or event == "init" and seq is None and (o["seq"], o["prev"]) == (1, prev)
            if begins != (n == 1) or event == "init" and n > 1 or ended != (n == 1):
                return f"{at}: not what this place of a file calls for"
            if seq is None:
                seq, prev = o["seq"] - 1, o["prev"]
            seq += 1
            if o is None:
                torn += 1
            else:
                if (o["seq"], o["prev"]) != (seq, prev) or o["time"] < time:
                    return f"{at}: does not continue the chain"
                s, time = (o.get("session", ""), o.get("entry", "")), o["time"]
                if event == "signed" and not intents.get(s):
                    return f"{at}: signed without an intent"
                if event not in ("endorsement", "approval"):
                    intents[s] = intents.get(s, 0) + 1 if event == "intent" else intents.get(s, 0) - 1 if event == "signed" else 0
            prev, ended = hash, event == "rotate"
            if head and head[0] == seq:
                met = True
                if head[1] != hash:
                    return f"{at}: not the line of the head"
    if seq is None or not met:
        return "the line of the head is missing" if seq else "no line"
    print(f"ok: {seq} {prev} torn {torn} without an end {sum(intents.values())}")

if __name__ == "__main__":
    arguments, head = sys.argv[1:], None
    if arguments[:1] == ["--head"]:
        head, arguments = (int(arguments[1].split(":")[0]), arguments[1].split(":")[1]), arguments[2:]
    wrong = verify(arguments, head)
    if wrong:
        sys.exit(wrong)
