"""`python -m castbench` and the `castbench` command."""

from __future__ import annotations

from castbench.cli.app import main

if __name__ == "__main__":
    main()
