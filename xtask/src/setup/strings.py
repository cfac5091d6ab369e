"""Takes strings out of a Python file: strings.py FILE FOLDER VARIABLE=NAME... Each lands in FOLDER under NAME.

Exits with 28 (ENOSPC) when the disk is full. FILE is parsed and never run: it needs nothing of what it imports.
"""

import ast
import errno
import pathlib
import sys

file, folder, *pairs = sys.argv[1:]

try:
    assigned = {
        target.id: statement.value
        for statement in ast.parse(pathlib.Path(file).read_bytes()).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    for pair in pairs:
        variable, name = pair.split("=")
        value = assigned.get(variable)
        if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
            sys.exit(f"{file} assigns no plain string to {variable}")
        (pathlib.Path(folder) / name).write_bytes(value.value.encode())
except OSError as error:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        sys.exit(28)
    raise
