/* The session's photos and the request queue. A photo is stored as two blobs, the file and the server's probability,
   with its settings; only the current photo is decoded. */
const AT_ONCE = 2;                  // concurrent requests
const photos = [];                  // {file, options, pending, answer, facts, threshold, strokes, thumbnail}, in the order chosen
let queue = [];                     // photos that were not sent yet
let asking = 0;
let batch = { photos: [], size: 0, shown: false, problems: [] };   // photos chosen since the queue was last empty
let refused = [];                   // files to send again with an API key
let stop = new AbortController();   // aborts all running requests

const answered = () => photos.filter((photo) => !photo.pending);

/* Send these files and show the first one. */
function add(files) {
  const clip = files.find(isClip);
  if (clip) sendClip(clip);
  files = files.filter((file) => !isClip(file));
  if (!files.length) return;
  if (!asking) batch = { photos: [], size: 0, shown: false, problems: [] };
  batch.size += files.length;
  refused = [];
  complain("");
  $("key-form").hidden = true;
  for (const file of files) {
    const photo = { file, options: options(), pending: true, answer: null, facts: null, threshold: 0.5, strokes: [], thumbnail: null };
    for (const list of [photos, queue, batch.photos]) list.push(photo);
  }
  sendQueue();
}

/* Send every photo again after an option changed, the current one first. Corrections stay. */
function askAgain() {
  cancelRequests();
  queue = [...photos].sort((a, b) => (b === current) - (a === current));
  batch = { photos: [...queue], size: queue.length, shown: false, problems: [] };
  for (const photo of queue) Object.assign(photo, { options: options(), pending: true });
  complain("");
  sendQueue();
}

function cancelRequests() {
  stop.abort();
  stop = new AbortController();
  queue = [];
  asking = 0;
}

function sendQueue() {
  if (!queue.length) return;
  say("Sending to the server.");
  progress();
  for (let i = 0; i < AT_ONCE; i++) next();
}

async function next() {
  if (asking >= AT_ONCE || !queue.length) return;
  const photo = queue.shift();
  const { signal } = stop;
  asking++;
  progress();
  try {
    await segment(photo, signal);
  } catch (error) {
    if (signal.aborted) return;
    if (photo.facts) photo.pending = false;     // keep the older answer
    else for (const list of [photos, batch.photos]) list.splice(list.indexOf(photo), 1);
    if (error.status === 401) refused.push(photo.file);
    batch.problems.push([photo.file.name, error instanceof Refusal ? error.message : "Could not display the result: " + error.message]);
  } finally {
    if (!signal.aborted) await proceed();
  }
}

/* After a response: show the first photo of the batch, send the next one, or report the outcome. */
async function proceed() {
  const [first] = batch.photos;
  if (!batch.shown && first && !first.pending) { batch.shown = true; await show(first); }
  asking--;
  if (!asking && !queue.length) settle();
  progress();
  next();
}

/* One request with output=probability: everything on screen is drawn from its response. The archive stores the photo
   at its first request, under that request's id. */
async function segment(photo, signal) {
  const first = photo.facts;
  const [response, own] = await Promise.all([
    ask(photo.file, { output: "probability", ...photo.options, ...(first && { archive: "no" }) }, signal),
    decode(photo.file).catch(() => null),
  ]);
  const answer = await response.blob();
  const grey = await decode(answer);
  signal.throwIfAborted();
  const facts = readFacts(response.headers, grey);
  photo.answer = answer;
  photo.thumbnail = thumbnail(own || grey);
  if (!first || photo.threshold === first.threshold) photo.threshold = facts.threshold;
  photo.facts = first ? { ...facts, id: first.id, archived: first.archived } : facts;
  photo.pending = false;
  release(own, grey);
}

/* The batch is finished: report the outcome. */
function settle() {
  const { problems, size } = batch;
  const several = size > 1 || current;          // name the photo in a problem
  if (problems.length) complain(problems.map(([name, problem]) => several ? `${name}: ${problem}` : problem).join("\n"));
  if (refused.length) { $("key-form").hidden = false; $("key").focus(); }
  if (size > 1) say(`${size - problems.length} of ${size} photos are done.`);
  else if (!problems.length) say(current.facts.found ? `Found a person: ${percent(current.facts.coverage)} of the photo.` : "No person was found in this photo.");
}

/* Abort all requests and clear the page. */
function removeAll() {
  cancelRequests();
  photos.length = 0;
  leave();
  progress();
  say("All photos were removed from this page.");
  $("choose").focus();
}

function remove(photo) {
  const rest = answered();
  const at = rest.indexOf(photo);
  const neighbour = rest[at + 1] || rest[at - 1];
  if (!neighbour) return;
  photos.splice(photos.indexOf(photo), 1);
  say(`${photo.file.name} was removed from this page.`);
  progress();
  show(neighbour).then(() => document.querySelector("#photos [aria-current=true]").focus());
}

function thumbnail(image) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 112;
  const scale = Math.max(112 / image.naturalWidth, 112 / image.naturalHeight);
  const width = image.naturalWidth * scale, height = image.naturalHeight * scale;
  canvas.getContext("2d").drawImage(image, (112 - width) / 2, (112 - height) / 2, width, height);
  return canvas;
}

/* Draw the thumbnails, the top bar and the counters. */
function progress() {
  busy(asking > 0);
  const done = answered().length;
  $("title").textContent = current ? current.file.name : asking ? "Segmenting…" : "Drop photos here, or paste one";
  $("strip").hidden = photos.length < 2;
  $("remove").disabled = done < 2;
  $("download-all").hidden = done < 2;
  $("download-all").disabled = asking > 0;
  $("download-all").textContent = asking ? `${done} of ${photos.length} photos are done` : `Download all ${done} as ZIP`;
  $("photos").replaceChildren(...photos.map((photo, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "thumbnail";
    button.disabled = photo.pending;
    button.setAttribute("aria-label", `${photo.file.name}, ${index + 1} of ${photos.length}`);
    button.setAttribute("aria-current", String(photo === current));
    if (photo.thumbnail) button.append(photo.thumbnail);
    button.addEventListener("click", () => show(photo).then(() => document.querySelector("#photos [aria-current=true]").focus()));
    button.addEventListener("keydown", (event) => { if (event.key === "Delete") remove(photo); });
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}
