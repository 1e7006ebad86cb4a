"""What a shell asks for while a command is typed: the words that may follow, and the script that makes it ask."""

import os

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    shell_complete,
    split_arg_string,
)

from edgeslim.errors import BadInput

PROGRAM, VARIABLE = "edgeslim", "_EDGESLIM_COMPLETE"
# Bash ends a word at these, and replaces what stands behind the last of them alone.
BREAKS = ":="


@add_completion_class
class WholeWords(BashComplete):
    """Bash, whose parts of words such as `torchvision:alexnet` are put together again before they are completed."""

    # Unlike click's own: no space after what goes on, nothing of a failure in the middle of a line.
    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n'
    local response completion type value
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete $1 2>/dev/null)
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                COMPREPLY+=("$value")
                if [[ $value == *[:/=] ]]; then compopt -o nospace; fi
                ;;
        esac
    done
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is typed, and that one."""
        count = int(os.environ["COMP_CWORD"]) + 1
        words = split_arg_string(os.environ["COMP_WORDS"])[:count]
        words += [""] * (count - len(words))
        whole: list[str] = []
        for word in words:
            if whole and word and (word[0] in BREAKS or whole[-1][-1:] in tuple(BREAKS)):
                whole[-1] += word
            else:
                whole.append(word)
        return whole[1:-1], whole[-1]

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Return what Bash writes in place of the last part of the word."""
        found = super().get_completions(args, incomplete)
        before = incomplete[: max(incomplete.rfind(mark) for mark in BREAKS) + 1]
        for item in found:
            # Of `--rewrite=clip=` and the word `clip=yes`, `clip=` is written already.
            same = next((n for n in range(len(before), 0, -1) if item.value.startswith(before[-n:])), 0)
            item.value = item.value[same:]
        return found


def answer(commands: click.Group, instruction: str) -> int:
    """Print what a shell asks for ("bash_source", "zsh_complete"); return the exit code.

    Raises BadInput for a shell that cannot be served.
    """
    shell, _, wish = instruction.rpartition("_")
    if get_completion_class(shell) is None or wish not in ("source", "complete"):
        raise BadInput(
            f"{VARIABLE}={instruction}: expected bash_source, zsh_source or fish_source; other shells are not completed"
        )
    return shell_complete(commands, {}, PROGRAM, VARIABLE, instruction)
