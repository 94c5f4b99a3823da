"""Pseudo-labels as a Ray job: `aigid pseudo-label`, on the cluster it is submitted to.

ray job submit -- python jobs/pseudo_label.py s3://bucket/unlabelled/ \\
    --out s3://bucket/results/ --pseudo s3://bucket/pseudo/
"""

import sys

from aigid.__main__ import main

if __name__ == "__main__":
    main(["pseudo-label", "--ray=auto", *sys.argv[1:]], "jobs/pseudo_label.py")
