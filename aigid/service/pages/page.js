"use strict";

// What a file, a model or a file's metadata says is only ever shown as text.

const PAIRS_AT_A_TIME = 8;
const VERDICTS = { ai: "AI-generated", real: "Not AI-generated", unsure: "Unsure" };
const SAYS = { ai: "AI-generated", camera: "taken by a camera", edited: "edited", none: "note" };
const STRENGTHS = {
  signed_trusted: "signed by a trusted issuer",
  signed_untrusted: "signed, by nobody on the trust list",
  metadata: "plain metadata, which anybody can write",
  camera_exif: "camera fields, which editors copy",
};
const find = (id) => document.getElementById(id);
const percent = (value) => `${(100 * value).toFixed(1)} %`;

let chosen = [];
let isBusy = false;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function say(text, isBad = false) {
  find("status").textContent = text;
  find("status").classList.toggle("bad", isBad);
}

function images(count) {
  return count === 1 ? "1 image" : `${count} images`;
}

function choose(files) {
  if (isBusy || files.length === 0) return;
  forget();
  chosen = Array.from(files, (file) => ({ file, url: URL.createObjectURL(file) }));
  find("answers").replaceChildren(...chosen.map((one) => card(one)));
  find("check").disabled = false;
  find("clear").hidden = false;
  say(`${images(chosen.length)} chosen.`);
}

function forget() {
  for (const one of chosen) URL.revokeObjectURL(one.url);
  chosen = [];
  find("answers").replaceChildren();
  find("check").disabled = true;
  find("clear").hidden = true;
  say("");
}

function card(one) {
  one.card = element("li", "answer");
  const preview = element("img");
  preview.alt = "";
  preview.src = one.url;
  preview.addEventListener("error", () => preview.replaceWith(element("div", "blank", "no preview")));
  one.result = element("div");
  one.result.append(element("p", "file", one.file.name || "pasted image"));
  one.card.append(preview, one.result);
  return one.card;
}

function bars(pSource, source) {
  const table = element("table", "bars");
  table.append(element("caption", "", "Probability of each source"));
  for (const [label, value] of Object.entries(pSource)) {
    const row = element("tr", label === source ? "most" : "");
    const head = element("th", "", label);
    head.scope = "row";
    const bar = element("progress");
    bar.max = 1;
    bar.value = value;
    bar.setAttribute("aria-hidden", "true");
    const cell = element("td");
    cell.append(bar);
    row.append(head, cell, element("td", "", percent(value)));
    table.append(row);
  }
  return table;
}

function evidence(detection) {
  const part = element("div");
  if (detection.evidence === null) return part;
  part.append(element("h2", "", "What the file says of its origin"));
  if (detection.findings.length === 0) {
    part.append(element("p", "file", "Nothing. It may still be generated: most web sites remove metadata."));
    return part;
  }
  const list = element("ul", "evidence");
  for (const finding of detection.findings) {
    const item = element("li");
    const source = finding.source ? `: ${finding.source}` : "";
    item.append(element("span", "says", `${SAYS[finding.says]}${source}`), " ");
    item.append(element("small", "", `(${finding.kind}, in ${finding.found_in || "the file"}; ${STRENGTHS[finding.strength]})`));
    list.append(item);
  }
  part.append(list);
  return part;
}

function show(one, detection) {
  const { error, verdict } = detection;
  const text = error ? "No verdict" : VERDICTS[verdict];
  const file = one.result.firstChild;
  one.result.replaceChildren(element("p", `verdict ${error ? "error" : verdict}`, text), file);
  if (error) {
    one.result.append(element("p", "", `${error.code}: ${error.detail}`));
  } else {
    const other = detection.source === "other" ? ", by a generator that the model does not know" : "";
    const likely = detection.is_ai && !other ? `, most likely by ${detection.source}` : other;
    one.result.append(element("p", "", `Probability that it is AI-generated: ${percent(detection.p_ai)}${likely}.`));
    one.result.append(bars(detection.p_source, detection.source));
  }
  one.result.append(evidence(detection));
}

function headers() {
  const key = find("key").value.trim();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function answerOf(response) {
  const document = await response.json().catch(() => null);
  if (response.ok) return document;
  if (response.status === 401) {
    find("key-field").hidden = false;
    find("key").focus();
  }
  throw new Error(document ? `${document.detail}. ${document.remedy}` : `The service answered ${response.status}.`);
}

async function ask(some, prompt) {
  const form = new FormData();
  for (const one of some) {
    form.append("image", one.file, one.file.name || "pasted");
    form.append("prompt", prompt);
  }
  const response = await fetch("v1/detect", { method: "POST", body: form, headers: headers() });
  return answerOf(response);
}

async function check(event) {
  event.preventDefault();
  if (isBusy || chosen.length === 0) return;
  isBusy = true;
  find("check").disabled = true;
  const prompt = find("prompt").value;
  const counts = { ai: 0, real: 0, unsure: 0, error: 0 };
  try {
    for (let start = 0; start < chosen.length; start += PAIRS_AT_A_TIME) {
      const some = chosen.slice(start, start + PAIRS_AT_A_TIME);
      say(`Checking ${images(chosen.length)} …`);
      const answer = await ask(some, prompt);
      showModel(answer.model);
      answer.detections.forEach((detection, number) => {
        show(some[number], detection);
        counts[detection.error ? "error" : detection.verdict] += 1;
      });
    }
    const told = Object.entries({ ...VERDICTS, error: "without a verdict" })
      .filter(([verdict]) => counts[verdict] > 0)
      .map(([verdict, name]) => `${counts[verdict]} ${name.toLowerCase().replace("ai-", "AI-")}`);
    say(`${images(chosen.length)}: ${told.join(", ")}.`);
  } catch (error) {
    say(error instanceof TypeError ? "The service cannot be reached." : error.message, true);
  } finally {
    isBusy = false;
    find("check").disabled = chosen.length === 0;
  }
}

function showModel(model) {
  find("model").textContent = `model ${model.name}, ${model.mode}, threshold ${model.threshold}`;
  find("notice").textContent = model.notice || "";
  find("notice").hidden = !model.notice;
}

async function begin() {
  try {
    showModel(await answerOf(await fetch("v1/model", { headers: headers() })));
    say("");
  } catch (error) {
    say(error instanceof TypeError ? "The service cannot be reached." : error.message, true);
  }
}

find("files").addEventListener("change", (event) => choose(event.target.files));
find("form").addEventListener("submit", check);
find("clear").addEventListener("click", () => {
  find("form").reset();
  forget();
  find("files").focus();
});
find("key").addEventListener("change", begin);
document.addEventListener("paste", (event) => choose(event.clipboardData.files));
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    find("drop").classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    find("drop").classList.remove("over");
  });
}
document.addEventListener("drop", (event) => choose(event.dataTransfer.files));
begin();
