#!/usr/bin/env bash
# Asks an aigid server about one image over HTTP; prints the answer as JSON, and what the server is to standard error.
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

# What stands before every value of a BYTES tensor: its length, 4 bytes, little-endian.
write_length() {
  local escapes
  escapes=$(printf '\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)))
  printf '%b' "$escapes"
}

call "$server/health/ready"
echo "ready" >&2
call "$server/models/aigid_pairs" >&2
echo >&2

image_bytes=$(wc -c < "$image")
# wc counts bytes, where ${#prompt} would count letters.
prompt_bytes=$(printf %s "$prompt" | wc -c)
header='{
  "inputs": [
    {"name": "image_bytes", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": '$((image_bytes + 4))'}},
    {"name": "prompt", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": '$((prompt_bytes + 4))'}}
  ],
  "parameters": {"binary_data_output": false}
}'

# The JSON header is followed by the binary inputs, in its order.
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
