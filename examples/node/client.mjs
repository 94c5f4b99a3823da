// Scores images on an aigid server, and prints p_ai and the source, or the error code, of each.
// Usage: node examples/node/client.mjs HOST:PORT IMAGE PROMPT [IMAGE PROMPT ...]
// Needs triton.protoset beside this file; examples/triton_descriptors.py writes it.

import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const USAGE = "usage: node examples/node/client.mjs HOST:PORT IMAGE PROMPT [IMAGE PROMPT ...]";
const DEADLINE_SECONDS = 60;
// -1: no limit. Requests contain whole images. By default grpc-js refuses answers over 4 MB.
const CHANNEL_OPTIONS = {
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
};

/** Returns a client of the gRPC service in the descriptor set. */
function connect(address) {
  const descriptors = readFileSync(new URL("triton.protoset", import.meta.url));
  const definition = protoLoader.loadFileDescriptorSetFromBuffer(descriptors);
  const { GRPCInferenceService } = grpc.loadPackageDefinition(definition).inference;
  return new GRPCInferenceService(address, grpc.credentials.createInsecure(), CHANNEL_OPTIONS);
}

/** Returns a BYTES tensor: each value follows its length, which is 4 bytes, little-endian. */
function packBytes(values) {
  return Buffer.concat(values.flatMap((value) => [uint32(value.length), value]));
}

function uint32(number) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes;
}

/** Returns the values of a BYTES tensor as strings. */
function unpackTexts(tensor) {
  const texts = [];
  for (let start = 4; start <= tensor.length; ) {
    const stop = start + tensor.readUInt32LE(start - 4);
    texts.push(tensor.toString("utf8", start, stop));
    start = stop + 4;
  }
  return texts;
}

/** Returns the numbers of an FP32 tensor. */
function unpackFloats(tensor) {
  return Array.from({ length: tensor.length / 4 }, (_, index) => tensor.readFloatLE(4 * index));
}

/** Returns what the model can name: `{ labels, leastKnown }`. */
async function askLabels(client, options) {
  const ask = promisify(client.ModelConfig.bind(client));
  const { config } = await ask({ name: "aigid_pairs" }, options);
  // The descriptor set gives a map as a list of its entries.
  const settings = new Map(config.parameters.map(({ key, value }) => [key, value.string_value]));
  return {
    labels: JSON.parse(settings.get("labels")),
    leastKnown: Number(settings.get("open_set_threshold") ?? -Infinity),
  };
}

/** Scores images and prompts (arrays of Buffers); returns `{ error, pAi, source }` for each. */
async function detect(client, images, prompts) {
  const options = { deadline: Date.now() + 1000 * DEADLINE_SECONDS };
  const { labels, leastKnown } = await askLabels(client, options);
  const shape = [images.length, 1];
  const request = {
    model_name: "aigid_pairs",
    inputs: [
      { name: "image_bytes", datatype: "BYTES", shape },
      { name: "prompt", datatype: "BYTES", shape },
    ],
    raw_input_contents: [packBytes(images), packBytes(prompts)],
  };
  const infer = promisify(client.ModelInfer.bind(client));
  const answer = await infer(request, options);
  const names = answer.outputs.map((output) => output.name);
  const tensor = (name) => answer.raw_output_contents[names.indexOf(name)];
  const pAi = unpackFloats(tensor("p_ai"));
  const knownScore = unpackFloats(tensor("known_score"));
  const pSource = unpackFloats(tensor("p_source"));
  return unpackTexts(tensor("error")).map((error, row) => {
    const shares = pSource.slice(labels.length * row, labels.length * (row + 1));
    const known = knownScore[row] >= leastKnown;
    return { error, pAi: pAi[row], source: nameSource(labels, pAi[row], shares, known) };
  });
}

/** Returns the source as aigid names it: real below 0.5, else the most probable generator. */
function nameSource([real, ...generators], pAi, [, ...shares], known) {
  if (pAi < 0.5) return real;
  return known ? generators[shares.indexOf(Math.max(...shares))] : "other";
}

/** Scores and prints `pairs`: IMAGE PROMPT IMAGE PROMPT ... */
async function main(address, pairs) {
  const names = pairs.filter((_, index) => index % 2 === 0);
  const prompts = pairs.filter((_, index) => index % 2 === 1);
  const client = connect(address);
  const images = names.map((name) => readFileSync(name));
  const answers = await detect(client, images, prompts.map((prompt) => Buffer.from(prompt)));
  client.close();
  for (const [row, answer] of answers.entries()) {
    const result = answer.error || `${answer.pAi.toFixed(4)} ${answer.source}`;
    console.log(`${names[row]}: ${result}`);
  }
}

const [address, ...pairs] = process.argv.slice(2);
if (pairs.length === 0 || pairs.length % 2 !== 0) {
  console.error(USAGE);
  process.exit(2);
}
main(address, pairs).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
