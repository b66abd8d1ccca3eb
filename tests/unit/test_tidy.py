"""Each of the house rules sees what it is there to see. That they hold for this tree is `make tidy`'s to say."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tools import tidy, tidy_code
from tools.tidy_tree import Problem, Tree

LONG_FUNCTION: Final = "def long():\n" + "    pass\n" * tidy_code.FUNCTION_LINES_MAX
HANDLER: Final = "async def handler():\n" + "    pass\n" * tidy_code.HANDLER_LINES_MAX
LONG_CLASS: Final = "class Long:\n" + "    x = 1\n" * tidy_code.CLASS_LINES_MAX
LONG_FILE: Final = "x = 1\n" * (tidy_code.FILE_LINES_MAX + 1)
DECISION: Final = "# 1. Keep it\n\n## Context\n\nx\n\n## Decision\n\nx\n\n## Consequences\n\nx\n"
# Put together here, since this file may not hold them either.
REGISTRY_HOST: Final = "py" + "pi.org"
MACHINE_PATH: Final = "/ro" + "ot/.cache"


def tree_of(root: Path, files: dict[str, str]) -> Tree:
    """Write the files and return the tree that they make."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return Tree.of_folder(root)


def problems_of(root: Path, files: dict[str, str]) -> list[Problem]:
    """Return what is untidy about these files."""
    return tidy.check(tree_of(root, files))


@pytest.mark.parametrize(
    ("rule", "path", "content"),
    [
        ("size", "src/twinhull/blobs/store.py", LONG_FUNCTION),
        ("size", "src/twinhull/blobs/store.py", "class A:\n" + "".join(f"    {line}\n" for line in LONG_FUNCTION.splitlines())),
        ("size", "src/twinhull/blobs/store.py", LONG_CLASS),
        ("size", "tests/unit/test_store.py", LONG_FILE),
        ("size", "src/twinhull/registry/blobs.py", HANDLER),
        ("syntax", "src/twinhull/blobs/store.py", "def f(:\n"),
        ("file name", "src/twinhull/blobs/utils.py", "x = 1\n"),
        ("file name", "src/twinhull/core/store.py", "x = 1\n"),
        ("file name", "src/twinhull/kit/strings.py", "x = 1\n"),
        ("init", "src/twinhull/blobs/__init__.py", '"""Blobs."""\n\nfrom twinhull.blobs import store\n'),
        ("init", "src/twinhull/blobs/__init__.py", ""),
        ("import inside", "src/twinhull/blobs/store.py", "def f():\n    import os\n"),
        ("import inside", "src/twinhull/blobs/store.py", "class A:\n    from os import path\n"),
        ("type checking", "src/twinhull/blobs/store.py", "from typing import TYPE_CHECKING\n"),
        ("type checking", "src/twinhull/blobs/store.py", "import typing\n\nif typing.TYPE_CHECKING:\n    import os\n"),
        ("sleep", "tests/functional/test_store.py", "import time\n\ntime.sleep(1)\n"),
        ("sleep", "tests/functional/test_store.py", "async def test_it():\n    await asyncio.sleep(0.1)\n"),
        ("registry host", "requirements/test.txt", f"--index-url x\n# {REGISTRY_HOST}\n"),
        ("registry host", "docs/install.md", f"# Install\n\nFrom {REGISTRY_HOST}.\n"),
        ("registry host", "package-lock.json", '  "resol' + 'ved": "http://x"\n'),
        ("machine path", "docs/install.md", f"# Install\n\nLook at `{MACHINE_PATH}/x`.\n"),
        ("issue number", "src/twinhull/blobs/store.py", "# As issue " + "12 says.\n"),
        ("document", "docs/install.md", "Install\n"),
        ("document", "docs/install.md", "# Install\n\n# And more\n"),
        ("document", "docs/install.md", "# Install\n\nblank at the end \n"),
        ("document", "docs/install.md", "# Install\n\n```\nnever closed\n"),
        ("document", "docs/install.md", "# Install\n\n[there](nowhere.md)\n"),
        ("document", "docs/install.md", "# Install"),
        ("document", "docs/install.zh.md", "# 安装\n"),
        ("decision", "docs/decisions/0001-keep-it.md", "# 1. Keep it\n"),
        ("decision", "docs/decisions/keep-it.md", DECISION),
        ("decision", "docs/decisions/0001-keep-it.md", DECISION + "x\n" * 80),
        ("news", "news/blobs.md", "Blobs are kept.\n"),
    ],
)
def test_rule_sees_what_is_untidy(tmp_path: Path, rule: str, path: str, content: str) -> None:
    assert rule in {problem.rule for problem in problems_of(tmp_path, {path: content})}


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("src/twinhull/blobs/store.py", LONG_FUNCTION.removesuffix("    pass\n")),
        ("src/twinhull/blobs/store.py", HANDLER),
        ("src/twinhull/registry/blobs.py", HANDLER.removeprefix("async ")),
        ("src/twinhull/mirror/adapters/base.py", "x = 1\n"),
        ("src/twinhull/blobs/__init__.py", '"""Where the bytes are."""\n'),
        ("tests/support/waiting.py", "import time\n\ntime.sleep(0.05)\n"),
        ("tests/unit/test_store.py", "async def test_it():\n    await asyncio.sleep(0)\n"),
        (
            "docs/install.md",
            "# Install\n\n```sh\n# not a title\n```\n\n[itself](install.md#install), [web](https://example.com)\n",
        ),
        ("docs/decisions/0001-keep-it.md", DECISION),
        ("news/blobs-kept.added.md", "Blobs are kept.\n"),
        ("src/twinhull/web/app.py", 'PREFIX = "/api/v2.0/"\n'),
    ],
)
def test_rule_lets_pass_what_is_tidy(tmp_path: Path, path: str, content: str) -> None:
    assert problems_of(tmp_path, {path: content}) == []


def test_two_decisions_may_not_share_a_number(tmp_path: Path) -> None:
    files = {"docs/decisions/0001-keep-it.md": DECISION, "docs/decisions/0001-drop-it.md": DECISION}
    assert [problem.rule for problem in problems_of(tmp_path, files)] == ["decision"]


class TestArchitecture:
    FILES: Final = {"src/twinhull/blobs/store.py": "class Store:\n    def put(self): ...\n", "src/twinhull/node.py": "x = 1\n"}
    ROWS: Final = "| `blobs/` | bytes |\n| `node.py` | all together |\n"

    def problems(self, root: Path, text: str) -> list[str]:
        """Return what tidy says of an ARCHITECTURE.md of that text."""
        return [
            problem.message for problem in problems_of(root, {**self.FILES, "ARCHITECTURE.md": f"# Architecture\n\n{text}"})
        ]

    def test_room_without_a_row_is_seen(self, tmp_path: Path) -> None:
        assert self.problems(tmp_path, "| `blobs/` | bytes |\n") == ["`node.py` has no row in a table or drawing"]

    def test_room_in_a_drawing_is_enough(self, tmp_path: Path) -> None:
        assert self.problems(tmp_path, "```\n2 blobs/   bytes\n7 node.py  all together\n```\n") == []

    def test_room_named_in_a_sentence_is_not_enough(self, tmp_path: Path) -> None:
        assert len(self.problems(tmp_path, "See `blobs/` and `node.py`.\n")) == 2

    @pytest.mark.parametrize("token", ["blobs/gone.py", "src/twinhull/gone/", "blobs/store.take", "docs/gone.md"])
    def test_path_that_is_not_there_is_seen(self, tmp_path: Path, token: str) -> None:
        assert self.problems(tmp_path, f"{self.ROWS}\nSee `{token}`.\n") == [f"`{token}` does not exist"]

    @pytest.mark.parametrize(
        "token", ["blobs/store.py", "src/twinhull/blobs/", "blobs/store.put", "/v2/", "blobs/<hex>", "text/html"]
    )
    def test_path_that_is_there_and_what_is_no_path_pass(self, tmp_path: Path, token: str) -> None:
        assert self.problems(tmp_path, f"{self.ROWS}\nSee `{token}`.\n") == []


class TestAllowance:
    IMPORT_INSIDE: Final = {"src/twinhull/cli/serve.py": "def serve():\n    import os\n"}

    def grant(self, reason: str, match: str = "") -> dict[str, str]:
        """Return a tidy.toml with one row."""
        rows = f'[[allow]]\nrule = "import inside"\npath = "src/twinhull/cli/*.py"\nreason = "{reason}"\nmatch = "{match}"\n'
        return {"tools/tidy.toml": rows}

    def test_lets_its_rule_pass_where_it_says(self, tmp_path: Path) -> None:
        assert problems_of(tmp_path, self.IMPORT_INSIDE | self.grant("quick help")) == []

    def test_covers_only_what_it_matches(self, tmp_path: Path) -> None:
        problems = problems_of(tmp_path, self.IMPORT_INSIDE | self.grant("quick help", match="another function"))
        assert {problem.rule for problem in problems} == {"import inside", "allowance"}

    def test_needs_a_reason(self, tmp_path: Path) -> None:
        assert [problem.rule for problem in problems_of(tmp_path, self.IMPORT_INSIDE | self.grant(""))] == ["allowance"]

    def test_that_nothing_needs_is_untidy(self, tmp_path: Path) -> None:
        files = {"src/twinhull/cli/serve.py": "x = 1\n"} | self.grant("quick help")
        assert [problem.rule for problem in problems_of(tmp_path, files)] == ["allowance"]


class TestRatchet:
    NAME: Final = "src/twinhull/blobs/store.py::long"
    LINES: Final = tidy_code.FUNCTION_LINES_MAX + 1

    def files(self, recorded: int, function: str = LONG_FUNCTION) -> dict[str, str]:
        """Return a tree whose one function has a row in the ratchet."""
        return {"src/twinhull/blobs/store.py": function, "tools/tidy_ratchet.toml": f'# why\n"{self.NAME}" = {recorded}\n'}

    def test_lets_pass_what_is_as_long_as_recorded(self, tmp_path: Path) -> None:
        assert problems_of(tmp_path, self.files(self.LINES)) == []

    def test_refuses_what_has_grown(self, tmp_path: Path) -> None:
        assert [problem.rule for problem in problems_of(tmp_path, self.files(self.LINES - 1))] == ["size"]

    @pytest.mark.parametrize("function", [LONG_FUNCTION, "def long(): ...\n", "def other(): ...\n"])
    def test_wants_to_be_lowered_when_code_has_shrunk(self, tmp_path: Path, function: str) -> None:
        assert [problem.rule for problem in problems_of(tmp_path, self.files(self.LINES + 1, function))] == ["ratchet"]

    def test_tightening_lowers_a_number_and_keeps_the_comment(self, tmp_path: Path) -> None:
        tidy.tighten(tree_of(tmp_path, self.files(self.LINES + 9)))
        assert (tmp_path / tidy.RATCHET).read_text() == f'# why\n"{self.NAME}" = {self.LINES}\n'

    def test_tightening_drops_what_is_within_the_limit_and_raises_nothing(self, tmp_path: Path) -> None:
        tidy.tighten(tree_of(tmp_path, self.files(self.LINES + 9, "def long(): ...\n")))
        assert (tmp_path / tidy.RATCHET).read_text() == "# why\n"
        tidy.tighten(tree_of(tmp_path, self.files(self.LINES - 1)))
        assert (tmp_path / tidy.RATCHET).read_text() == f'# why\n"{self.NAME}" = {self.LINES - 1}\n'

    def test_allows_no_more_in_all_than_the_last_commit(self, tmp_path: Path) -> None:
        tree = tree_of(tmp_path, self.files(self.LINES))
        assert [problem.rule for problem in tidy.check_ratchet_growth(tree, {})] == ["ratchet"]
        assert tidy.check_ratchet_growth(tree, {"moved::long": self.LINES}) == []
        assert tidy.check_ratchet_growth(tree, None) == []
