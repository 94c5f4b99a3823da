#!/usr/bin/env bash
# Scores one image on an aigid server over HTTP. Prints the answer as JSON, and the model's metadata
# to standard error.
# Usage: examples/http_client.sh HOST:PORT IMAGE PROMPT
set -euo pipefail

if [ $# -ne 3 ]; then
  echo "usage: examples/http_client.sh HOST:PORT IMAGE PROMPT" >&2
  exit 2
fi
server=http://$1/v2 image=$2 prompt=$3

call() {
  curl --silent --show-error --fail-with-body --max-time 60 "$@"
}

# Before every value of a BYTES tensor comes its length: 4 bytes, little-endian.
write_length() {
  local escapes
  escapes=$(printf '\\x%02x' \
    $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)))
  printf '%b' "$escapes"
}

call "$server/health/ready"
echo "ready" >&2
call "$server/models/aigid_pairs" >&2
echo >&2

image_bytes=$(wc -c < "$image")
# wc counts bytes; ${#prompt} would count characters.
prompt_bytes=$(printf %s "$prompt" | wc -c)
header='{
  "inputs": [
    {"name": "image_bytes", "datatype": "BYTES", "shape": [1, 1],
     "parameters": {"binary_data_size": '$((image_bytes + 4))'}},
    {"name": "prompt", "datatype": "BYTES", "shape": [1, 1],
     "parameters": {"binary_data_size": '$((prompt_bytes + 4))'}}
  ],
  "parameters": {"binary_data_output": false}
}'

# The binary inputs follow the JSON header, in its order.
{
  printf %s "$header"
  write_length "$image_bytes"
  cat < "$image"
  write_length "$prompt_bytes"
  printf %s "$prompt"
} | call "$server/models/aigid_pairs/infer" \
  --header "Inference-Header-Content-Length: ${#header}" \
  --header "Content-Type: application/octet-stream" \
  --data-binary @-
echo
