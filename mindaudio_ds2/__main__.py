"""The console script: `mindaudio-ds2 COMMAND …`, also `python -m mindaudio_ds2 COMMAND …`."""

import difflib
import importlib
import sys

from mindaudio_ds2 import console
from mindaudio_ds2.commands import list_commands
from mindaudio_ds2.errors import leave_at_once_until_a_command


def main() -> None:
    """Run the named command, or list them all."""
    leave_at_once_until_a_command()
    console.protect()
    known = list_commands()
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in known:
        listed = "\n".join(f"  {command:<18} {text}" for command, text in known.items())
        asked = name in ("", "-h", "--help")
        if asked:
            text = f"usage: mindaudio-ds2 COMMAND [OPTION...]\n\n{listed}\n\nCOMMAND --help has options and examples"
            console.write_line(text, to_stdout=True)
            sys.exit(0)
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]}?" if close else "mindaudio-ds2 --help lists all"
        console.write_line(f"error: there is no command {console.escape(name)!r}; {hint}")
        sys.exit(2)
    sys.argv[:2] = [f"mindaudio-ds2 {name}"]
    run_command(name)


def run_command(name: str) -> None:
    """Run a command with the words of the command line; Ctrl-C while it is imported ends quietly."""
    leave_at_once_until_a_command()
    importlib.import_module(f"mindaudio_ds2.commands.{name}").main()


if __name__ == "__main__":
    main()
