"""Text that is safe to print."""


def escaped(text: str) -> str:
    r"""Return the text with control characters and broken code points as escapes, such as \x1b.

    File names, URLs and column names come from strangers: printed raw, they could move the cursor,
    colour the screen, or write a line that looks like one of ours.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
