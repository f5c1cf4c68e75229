// Fills /docs from /openapi.json and /status. Everything that comes from a model is set as text, never as markup.

const SHOWN_CHARACTERS = 200_000;

const list = document.getElementById("endpoints");
const contents = document.getElementById("contents");
const notice = document.getElementById("notice");
const template = document.getElementById("endpoint");

async function load() {
  try {
    const [described, status] = await Promise.all([fetchJson("/openapi.json"), fetchJson("/status")]);
    const requests = byEndpoint(described.paths);
    for (const endpoint of status.endpoints) show(endpoint, requests.get(endpoint.name) ?? []);
    notice.textContent = status.endpoints.length ? "" : "There is no endpoint.";
  } catch (problem) {
    notice.textContent = `The gateway does not answer: ${problem.message}. Load this page again.`;
  }
}

async function fetchJson(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path} gave ${answer.status}`);
  return answer.json();
}

// The requests of each endpoint, in the document's order: its own first, then its versions'.
function byEndpoint(paths) {
  const found = new Map();
  for (const [path, { post }] of Object.entries(paths)) {
    if (!post) continue;
    const content = post.requestBody.content["application/json"];
    const [name] = post.tags;
    if (!found.has(name)) found.set(name, []);
    found.get(name).push({ path, summary: post.summary, example: content.example });
  }
  return found;
}

function show(endpoint, requests) {
  const section = template.content.cloneNode(true).firstElementChild;
  const part = (selector) => section.querySelector(selector);
  section.id = `endpoint-${endpoint.name}`;
  part("h2").textContent = endpoint.name;
  part(".serving").textContent = told(endpoint);
  part("select").replaceChildren(...requests.map(({ path }) => new Option(path, path)));
  const chosen = () => requests[part("select").selectedIndex];
  const choose = () => {
    part(".summary").textContent = chosen().summary;
    part("textarea").value = chosen().example ? pretty(chosen().example) : "";
    refresh();
  };
  const refresh = () => {
    part(".curl").textContent = curl(chosen().path, part("textarea").value);
  };
  part("select").addEventListener("change", choose);
  part(".reset").addEventListener("click", choose);
  part("textarea").addEventListener("input", refresh);
  part("textarea").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) part("form").requestSubmit();
  });
  part(".copy").addEventListener("click", () => copy(part(".curl"), part(".told")));
  part("form").addEventListener("submit", (event) => {
    event.preventDefault();
    send(chosen().path, part("textarea").value, part);
  });
  choose();
  list.append(section);
  contents.append(entry(section.id, endpoint.name));
}

function entry(id, name) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = `#${encodeURIComponent(id)}`;
  link.textContent = name;
  item.append(link);
  return item;
}

function told(endpoint) {
  const versions = endpoint.versions.map(({ version, role }) => `version ${version} (${role})`).join(", ");
  const error = endpoint.last_error ? ` Last error: ${endpoint.last_error.message}` : "";
  return `${endpoint.uri ?? endpoint.model}: ${endpoint.state}${versions ? `, ${versions}` : ""}.${error}`;
}

// JSON with short things and lists of plain values on one line, so that a row of a table stays one.
function pretty(value, indent = "") {
  const flat = JSON.stringify(value);
  const isNested = (each) => each !== null && typeof each === "object";
  if (!isNested(value) || flat.length + indent.length <= 100) return flat;
  if (Array.isArray(value) && !value.some(isNested)) return flat;
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    return `[\n${value.map((each) => inner + pretty(each, inner)).join(",\n")}\n${indent}]`;
  }
  const fields = Object.entries(value).map(([key, each]) => `${inner}${JSON.stringify(key)}: ${pretty(each, inner)}`);
  return `{\n${fields.join(",\n")}\n${indent}}`;
}

// One line: JSON has no line break inside of a string.
function curl(path, body) {
  const line = body.split("\n").map((each) => each.trim()).join("");
  const quoted = (text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;
  return `curl -s ${quoted(location.origin + path)} -H 'Content-Type: application/json' -d ${quoted(line)}`;
}

async function copy(element, told) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    told.textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(element);
    element.focus();
    told.textContent = "Selected: copy it with your keyboard.";
  }
}

async function send(path, body, part) {
  const button = part("button[type=submit]");
  const outcome = part(".outcome");
  button.disabled = true;
  outcome.className = "outcome";
  outcome.textContent = "Sending…";
  const begun = performance.now();
  try {
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch(path, { method: "POST", headers, body });
    const text = await answer.text();
    const took = Math.round(performance.now() - begun);
    outcome.textContent = `${answer.status} ${answer.statusText}, in ${took} ms`;
    outcome.classList.add(answer.ok ? "good" : "bad");
    reveal(part(".text"), text);
    reveal(part(".headers"), [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n"));
    part("details").hidden = false;
  } catch (problem) {
    outcome.textContent = `No answer: ${problem.message}`;
    outcome.classList.add("bad");
    part(".text").hidden = true;
    part("details").hidden = true;
  } finally {
    button.disabled = false;
  }
}

function reveal(element, text) {
  const over = text.length - SHOWN_CHARACTERS;
  element.textContent = over > 0 ? `${text.slice(0, SHOWN_CHARACTERS)}\n… and ${over} more characters` : text;
  element.hidden = false;
}

load();
