"""Mistakes that a type checker finds: one on each line with the comment `mistake`."""

import aigid

threshold = aigid.Detector.load(threshold="high").threshold  # mistake
detector = aigid.Detector.load()
detector.threshold = 0.5  # mistake
detections = detector.detect([5])  # mistake
probability = detector.detect(["one.jpg"])[0].p_ai + 1  # mistake
nowhere = aigid.scan("manifest.parquet")  # mistake
typing_error = aigid.scan("manifest.parquet", out="results", cutoff=0.5)  # mistake
limit = aigid.scan("manifest.parquet", out="results", limit="ten")  # mistake
summary = aigid.scan("manifest.parquet", out="results")
rows = summary.row_count  # mistake
unknown = aigid.Detektor  # mistake
