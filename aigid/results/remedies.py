"""What a user can do about each error code of a row."""

REMEDIES = {
    "empty": "Give the row an image, or leave the row out of the manifest.",
    "missing": "Restore the image and run the same command with --retry-errors missing, or name "
    "the folder that relative paths start from with --image-root.",
    "forbidden": "Give aigid permission to read the image. Paths outside the image root need "
    "--allow-outside-root, private addresses --allow-private-addresses.",
    "timeout": "Check the network and the server, then run the same command with --retry-errors "
    "timeout.",
    "too_large": "Make the image smaller: `error_detail` says which limit it is over.",
    "undecodable": "Open the image in another program. If that fails too, replace the image.",
}
"""What a user can do about each error code."""
