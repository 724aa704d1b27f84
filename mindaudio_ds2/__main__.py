"""The console script: `mindaudio-ds2 COMMAND …`, also `python -m mindaudio_ds2 COMMAND …`."""

import importlib
import pkgutil
import sys

from mindaudio_ds2 import commands


def list_commands() -> dict[str, str]:
    """Every command's name, with the first sentence of its module's text. Imports none of them."""
    names = sorted(module.name for module in pkgutil.iter_modules(commands.__path__) if module.name[0] != "_")
    return {name: _read_first_line(name) for name in names}


def _read_first_line(name: str) -> str:
    import ast
    from pathlib import Path

    source = Path(commands.__path__[0]) / f"{name}.py"
    text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0]


def main() -> None:
    """Run the named command, or list them all."""
    known = list_commands()
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in known:
        listed = "\n".join(f"  {command:<18} {text}" for command, text in known.items())
        asked = name in ("", "-h", "--help")
        print(f"usage: mindaudio-ds2 COMMAND [OPTION...]\n\n{listed}", file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else f"error: there is no command {name!r}")
    sys.argv[:2] = [f"mindaudio-ds2 {name}"]
    importlib.import_module(f"mindaudio_ds2.commands.{name}").main()


if __name__ == "__main__":
    main()
