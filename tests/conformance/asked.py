"""The ready questions as they ship with an archive, told what makes them answer; and answers so that two engines' can be
compared. The archive's folder is the current one."""

import datetime
import decimal
import re
from pathlib import Path

# What is asked for, by the argument's name, where it has no default: something that is there.
TOLD = {
    "session": "SELECT session_id FROM events GROUP BY session_id ORDER BY count(*) DESC, session_id LIMIT 1",
    "user": "SELECT actor_user FROM events WHERE actor_user IS NOT NULL GROUP BY ALL ORDER BY count(*) DESC, 1 LIMIT 1",
    "object": "SELECT min(object) FROM (SELECT unnest(objects) AS object FROM events)",
    "token": "SELECT min(token) FROM blind_values WHERE token <> '+'",
    "digest": "SELECT min(new_digest) FROM control WHERE kind = 'policy.text'",
}
# What stands where an archive has none.
ABSENT = "none"


def texts():
    """Each question's name, and its text."""
    for path in sorted(Path("std7y/v1/questions").glob("*.sql")):
        yield path.stem, path.read_text()


def arguments(text):
    """What a question must be told, by name, and the default where it has one."""
    lines = [line for line in text.splitlines() if line.startswith("--")]
    found = (re.match(r"-- ([a-z]+)(?: \((.*)\))?: ", line) for line in lines)
    return {match[1]: match[2] for match in found if match and match[1] != "expects"}


def filled(text, told):
    """The SQL to be run."""
    body = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    return re.sub(":([a-z]+)", lambda match: "'" + told[match[1]].replace("'", "''") + "'", body)


def questions(con):
    """Each question's name, and its SQL, told by DuckDB's own look at the archive."""
    for name, text in texts():
        told = {}
        for argument, default in arguments(text).items():
            if default is None:
                found = con.execute(TOLD[argument]).fetchone()
                default = found[0] if found and found[0] is not None else ABSENT
            told[argument] = default
        yield name, filled(text, told)


def plain(value):
    """As all have it: times to the microsecond in UTC, numbers as numbers, structures as lists."""
    if isinstance(value, datetime.datetime):
        return value if value.tzinfo is None else value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    if isinstance(value, decimal.Decimal):
        return int(value)
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, dict):
        return [plain(item) for item in value.values()]
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def show(ours, theirs, who):
    """The first rows that differ."""
    print(f"  {len(ours)} rows in DuckDB, {len(theirs)} in {who}")
    differing = [(one, other) for one, other in zip(ours, theirs) if one != other][:2]
    for one, other in differing:
        print(f"  DuckDB {one}\n  {who} {other}")
