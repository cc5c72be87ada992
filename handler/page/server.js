/* Requests to the server of this page. */
const here = location.origin + location.pathname;
let key = "";                       // API key, in memory only

class Refusal extends Error {
  constructor(message, status) { super(message); this.status = status; }
}

/* The checked options as form fields: {name: value}. */
function options() {
  return Object.fromEntries([...document.querySelectorAll("[data-option]:checked")].map((one) => [one.name, one.value]));
}

const ask = (file, fields, signal) => post({ image: file, ...fields }, signal);

/* POST a form of texts and files. Returns the Response; raises Refusal with a message for the user. */
async function post(fields, signal) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Blob) form.append(name, value, "photo");   // the server ignores the file's name
    else form.append(name, value);
  }
  let answer;
  try {
    answer = await fetch(here, { method: "POST", body: form, signal, headers: key ? { Authorization: "Bearer " + key } : {} });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(fields.image?.size > 6e7
      ? "The server closed the connection: the photo is probably too large. Choose a smaller one."
      : "Could not reach the server. Check that it is running, then choose the photo again.", 0);
  }
  if (answer.ok) return answer;
  let body = {};
  try { body = await answer.json(); } catch { /* TorchServe and proxies may answer without JSON */ }
  throw new Refusal(body.message || {
    413: "The photo is larger than the server accepts. Choose a smaller one.",
    503: "The server is busy. Retry in a moment.",
  }[answer.status] || `The server answered ${answer.status} without a message.`, answer.status);
}

/* The facts in a response's headers; `grey` is the <img> of its probability. */
function readFacts(headers, grey) {
  const number = (name, otherwise) => headers.get(name) === null ? otherwise : Number(headers.get(name));
  const stages = [...(headers.get("server-timing") || "").matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, name, took]) => [name, Number(took)]);
  return {
    id: headers.get("x-request-id") || "",
    width: number("x-image-width", grey.naturalWidth),
    height: number("x-image-height", grey.naturalHeight),
    coverage: number("x-person-coverage", 0),
    found: headers.get("x-person-found") === "true",
    confidence: number("x-confidence", NaN),
    threshold: number("x-threshold", 0.5),
    version: headers.get("x-model-version") || "unknown",
    archived: headers.get("x-archived"),
    stages,
  };
}
