"""python book/colab OUT_DIR"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # where the package is, not its files

import colab  # noqa: E402


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        sys.exit(colab.__doc__)
    try:
        made = colab.write(colab.Book.read(), Path(arguments[0]))
    except colab.Unknown as error:
        sys.exit(f"no form for Colab:\n{error}")
    print(f"   {len(made)} copies for Colab in {arguments[0]}")


main(sys.argv[1:])
