"use strict";

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function operation(path, method, described) {
  const part = document.createElement("section");
  part.className = "operation";
  const head = document.createElement("h3");
  head.append(element("code", `${method.toUpperCase()} ${path}`));
  part.append(head, element("p", described.summary));
  const types = Object.keys(described.requestBody?.content ?? {});
  if (types.length > 0) part.append(element("p", `Body: ${types.join(" or ")}`));
  part.append(element("p", `Answers: ${Object.keys(described.responses).join(", ")}`));
  return part;
}

async function begin() {
  const base = new URL(".", location.href).href.replace(/\/$/, "");
  for (const origin of document.querySelectorAll(".origin")) origin.textContent = base;
  const place = document.getElementById("operations");
  try {
    const description = await (await fetch("openapi.json")).json();
    for (const [path, methods] of Object.entries(description.paths)) {
      for (const [method, described] of Object.entries(methods)) {
        place.append(operation(path, method, described));
      }
    }
  } catch {
    place.textContent = "openapi.json cannot be read.";
  }
}

begin();
