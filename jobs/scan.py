"""A scan as a Ray job: `aigid scan` with all its options, on the cluster it is submitted to.

ray job submit -- python jobs/scan.py s3://bucket/manifest/ --out s3://bucket/results/
"""

import sys

from aigid.__main__ import main

if __name__ == "__main__":
    main(["scan", "--ray=auto", *sys.argv[1:]], "jobs/scan.py")
