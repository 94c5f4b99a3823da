"""A scan as a job of a Ray cluster: `aigid scan` with all its options, on the cluster that it is submitted to.

ray job submit -- python jobs/scan.py s3://bucket/manifest/ --out s3://bucket/results/ --max-workers 64
"""

import sys

from aigid.cli.main import main

if __name__ == "__main__":
    main(["scan", "--ray=auto", *sys.argv[1:]], prog_name="jobs/scan.py")
