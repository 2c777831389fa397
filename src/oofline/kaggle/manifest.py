"""Which commit of the code a result comes from."""

import subprocess
from pathlib import Path


def git_commit() -> str:
    """Commit of the code's checkout, with "+changes" where files differ; "" without git."""
    root = Path(__file__).resolve().parents[3]

    def git(*arguments: str) -> str:
        """Output of a git command in the checkout, "" where it fails."""
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
            )
        except OSError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "HEAD") if (root / "pyproject.toml").is_file() else ""
    return f"{commit}+changes" if commit and git("status", "--porcelain", "src") else commit
