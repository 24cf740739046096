"""The docs check runs the commands of a page, except the marked ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.docs_check import RESULT_IS_NO_ERROR, blocks, script

if TYPE_CHECKING:
    from pathlib import Path

PAGE = """# A page

```sh
make up
echo first
make test   # everything
```

<!-- aws only -->
```sh
echo elsewhere
```

- A list:

  <!-- not run: it asks questions -->
  ```sh
  echo asked
  ```

  ```sh
  echo "in a list"
  ```

```python
print("no shell")
```
"""


def page(folder: Path) -> Path:
    path = folder / "page.md"
    path.write_text(PAGE)
    return path


def test_every_command_block_is_found_with_its_mark_and_without_its_indentation(tmp_path: Path) -> None:
    found = blocks(page(tmp_path))
    assert [block.mark for block in found] == [None, "aws only", "not run: it asks questions", None]
    assert found[3].text == 'echo "in a list"\n'
    assert [block.line for block in found] == [4, 11, 18, 22]


def test_marked_blocks_and_commands_that_would_stop_the_stack_are_left_out(tmp_path: Path) -> None:
    assert script(page(tmp_path)).splitlines() == [
        "set -e",
        ". .local/env",
        RESULT_IS_NO_ERROR,
        "echo '::4'",
        "echo first",
        "echo '::22'",
        'echo "in a list"',
    ]
