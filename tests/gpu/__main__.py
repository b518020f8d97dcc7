"""`python -m tests.gpu`: loads torch and muse once, then does what each line of stdin asks in a process of its own.

The simulated GPUs replace parts of torch for good, so nothing may follow them in their process; and loading takes
longer than most of what is asked. A line is a JSON list: the name of a case, then its arguments by name. Each is
answered by a line of JSON: what the case returned under "found", or its error under "error", "message" and "place".
"""

import json
import os
import sys
import traceback
from typing import Any

from tests.gpu.cases import CASES
from tests.gpu.waits import ROOT, is_ours


def main() -> None:
    """Answer one line after the other."""
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever is printed on the way goes beside the answers
    for line in sys.stdin:
        name, arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            answer(answers, name, arguments)
        _, status, used = os.wait4(child, 0)
        print(f"{used.ru_utime + used.ru_stime:6.1f} s of CPU for {line.strip()}", file=sys.stderr, flush=True)
        if status:
            send(answers, {"error": "died", "message": f"ended with status {status}", "place": ""})


def answer(answers: int, name: str, arguments: dict[str, Any]) -> None:
    """Do what is asked, send what came of it, and end this process."""
    try:
        found = {"found": CASES[name](**arguments)}
    except BaseException as error:
        found = told(error)
    send(answers, found)
    sys.stderr.flush()
    os._exit(0)


def told(error: BaseException) -> dict[str, Any]:
    """An error with the innermost line of ours that it came through."""
    traceback.print_exception(error)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_ours(frame.filename)]
    place = f"{os.path.relpath(frames[-1].filename, ROOT)}:{frames[-1].lineno}" if frames else ""
    return {"error": type(error).__name__, "message": str(error), "place": place}


def send(answers: int, document: dict[str, Any]) -> None:
    """Write one line."""
    os.write(answers, (json.dumps(document) + "\n").encode())


if __name__ == "__main__":
    main()
